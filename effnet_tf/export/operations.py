"""Which TensorFlow operations only compute on tensors?

A SavedModel is a program. Of TensorFlow's 1,900 operations the ones below are what exported
classifiers are made of: what they give depends on the tensors that go in, and nothing else
happens. What is not here may be harmless (nobody has looked), or may read and write files,
call Python, talk to other machines, print, or run compiled code; see safety.py.
"""

# By what they do. Each name is one of TensorFlow's own; tests/export/test_safety.py looks.
_BY_KIND = {
    "constants, shapes and places: no arithmetic at all": """
        BroadcastArgs BroadcastGradientArgs BroadcastTo Concat ConcatOffset ConcatV2 Const
        CheckNumerics DeepCopy DepthToSpace BatchToSpace BatchToSpaceND Diag DiagPart
        DynamicPartition DynamicStitch Empty EnsureShape ExpandDims ExtractImagePatches
        ExtractVolumePatches FakeParam Fill Gather GatherNd GatherV2 Identity IdentityN
        InvertPermutation LinSpace ListDiff MatrixBandPart MatrixDiag MatrixDiagPart
        MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixSetDiag MatrixSetDiagV2
        MatrixSetDiagV3 MirrorPad NoOp OneHot OnesLike Pack Pad PadV2 ParallelConcat
        ParallelDynamicStitch Placeholder PlaceholderWithDefault PreventGradient Range Rank
        Reshape Reverse ReverseSequence ReverseV2 Roll ScatterNd Shape ShapeN Size Slice
        Snapshot SpaceToBatch SpaceToBatchND SpaceToDepth SparseToDense Split SplitV Squeeze
        StopGradient StridedSlice StridedSliceGrad TensorScatterAdd TensorScatterMax
        TensorScatterMin TensorScatterSub TensorScatterUpdate TensorStridedSliceUpdate Tile
        Transpose ConjugateTranspose Unique UniqueV2 UniqueWithCounts UniqueWithCountsV2 Unpack
        UnravelIndex Where ZerosLike""",
    "arithmetic, element by element": """
        Abs Acos Acosh Add AddN AddV2 Angle ApproximateEqual Asin Asinh Atan Atan2 Atanh BesselI0
        BesselI0e BesselI1 BesselI1e Betainc Bitcast BitwiseAnd BitwiseOr BitwiseXor Bucketize
        Cast Ceil ClipByValue Complex ComplexAbs Conj Cos Cosh Digamma Div DivNoNan Equal Erf
        Erfc Erfinv Exp Expint Expm1 Floor FloorDiv FloorMod Greater GreaterEqual Igamma Igammac
        Imag Inv Invert IsFinite IsInf IsNan LeftShift Less LessEqual Lgamma Log Log1p LogicalAnd
        LogicalNot LogicalOr Maximum Minimum Mod Mul MulNoNan Ndtri Neg NextAfter NotEqual
        PopulationCount Pow Real RealDiv Reciprocal RightShift Rint Round Rsqrt Select SelectV2
        Sign Sin Sinh Sqrt Square SquaredDifference Sub Tan Tanh TruncateDiv TruncateMod Xdivy
        Xlog1py Xlogy Zeta""",
    "sums, products and orders": """
        All Any ApproxTopK ArgMax ArgMin BatchMatMul BatchMatMulV2 BatchMatMulV3 Bincount Cross
        Cumprod CumulativeLogsumexp Cumsum DenseBincount Einsum EuclideanNorm HistogramFixedWidth
        InTopK InTopKV2 L2Loss LowerBound MatMul Max Mean Min NthElement Prod SegmentMax
        SegmentMean SegmentMin SegmentProd SegmentSum SparseMatMul Sum TopK TopKV2
        UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum UpperBound
        Cholesky LogMatrixDeterminant Lu MatrixDeterminant MatrixInverse MatrixSolve
        MatrixTriangularSolve Qr SelfAdjointEigV2 Svd FFT FFT2D IFFT IFFT2D IRFFT IRFFT2D RFFT
        RFFT2D""",
    "layers of networks, and their gradients": """
        AvgPool AvgPool3D AvgPoolGrad BatchNormWithGlobalNormalization BiasAdd BiasAddGrad
        BiasAddV1 Conv2D Conv2DBackpropFilter Conv2DBackpropInput Conv3D Conv3DBackpropFilterV2
        Conv3DBackpropInputV2 DataFormatDimMap DataFormatVecPermute DepthwiseConv2dNative
        DepthwiseConv2dNativeBackpropFilter DepthwiseConv2dNativeBackpropInput Dilation2D Elu
        EluGrad FusedBatchNorm FusedBatchNormGrad FusedBatchNormGradV2 FusedBatchNormGradV3
        FusedBatchNormV2 FusedBatchNormV3 FusedPadConv2D FusedResizeAndPadConv2D InvGrad LRN
        LRNGrad LeakyRelu LeakyReluGrad LogSoftmax MaxPool MaxPool3D MaxPoolGrad MaxPoolGradV2
        MaxPoolV2 MaxPoolWithArgmax MirrorPadGrad ReciprocalGrad Relu Relu6 Relu6Grad ReluGrad
        RsqrtGrad Selu SeluGrad Sigmoid SigmoidGrad Softmax SoftmaxCrossEntropyWithLogits
        Softplus SoftplusGrad Softsign SoftsignGrad SparseSoftmaxCrossEntropyWithLogits SqrtGrad
        TanhGrad _FusedBatchNormEx _FusedConv2D _FusedDepthwiseConv2dNative _FusedMatMul""",
    "quantised numbers": """
        Dequantize FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars
        FakeQuantWithMinMaxVarsPerChannel QuantizeAndDequantize QuantizeAndDequantizeV2
        QuantizeAndDequantizeV3 QuantizeAndDequantizeV4 QuantizeV2 UniformDequantize
        UniformQuantize UniformQuantizedAdd UniformQuantizedConvolution UniformQuantizedDot
        UniformRequantize""",
    "images in memory: what decodes them is given bytes, never a path": """
        AdjustContrastv2 AdjustHue AdjustSaturation CropAndResize DecodeAndCropJpeg DecodeBase64
        DecodeBmp DecodeGif DecodeImage DecodeJpeg DecodePng DecodeRaw DecodeWebP EncodeBase64
        EncodeJpeg EncodePng ExtractGlimpse ExtractGlimpseV2 ExtractJpegShape HSVToRGB
        ImageProjectiveTransformV2 ImageProjectiveTransformV3 NonMaxSuppression
        NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5
        CombinedNonMaxSuppression RGBToHSV ResizeArea ResizeBicubic ResizeBilinear
        ResizeNearestNeighbor SampleDistortedBoundingBox SampleDistortedBoundingBoxV2
        ScaleAndTranslate StatelessSampleDistortedBoundingBox""",
    "text in memory, and protocol buffers of examples": """
        AsString ParseExample ParseExampleV2 ParseSingleExample ReduceJoin RegexFullMatch
        RegexReplace StaticRegexFullMatch StaticRegexReplace StringFormat StringJoin StringLength
        StringLower StringSplit StringSplitV2 StringStrip StringToHashBucket
        StringToHashBucketFast StringToHashBucketStrong StringToNumber StringUpper Substr
        UnicodeDecode UnicodeDecodeWithOffsets UnicodeEncode UnicodeTranscode
        UnsortedSegmentJoin""",
    "random numbers; the seeds of stateful ones are the process's own": """
        Multinomial ParameterizedTruncatedNormal RandomGamma RandomShuffle RandomStandardNormal
        RandomUniform RandomUniformInt RngReadAndSkip RngSkip StatefulStandardNormalV2
        StatefulTruncatedNormal StatefulUniform StatefulUniformFullInt StatefulUniformInt
        StatelessMultinomial StatelessRandomGammaV2 StatelessRandomGammaV3
        StatelessRandomGetAlg StatelessRandomGetKeyCounter StatelessRandomGetKeyCounterAlg
        StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomUniform
        StatelessRandomUniformFullInt StatelessRandomUniformFullIntV2 StatelessRandomUniformInt
        StatelessRandomUniformIntV2 StatelessRandomUniformV2 StatelessShuffle
        StatelessTruncatedNormal StatelessTruncatedNormalV2 TruncatedNormal RandomIndexShuffle""",
    "decisions, loops and calls; the functions that they call are looked at themselves": """
        Assert Case ControlTrigger Enter Exit For If LoopCond Merge NextIteration PartitionedCall
        StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile Switch While""",
    "lists of tensors inside a loop": """
        EmptyTensorList StackCloseV2 StackPopV2 StackPushV2 StackV2 TensorArrayCloseV3
        TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayGradV3 TensorArrayReadV3
        TensorArrayScatterV3 TensorArraySizeV3 TensorArraySplitV3 TensorArrayV3
        TensorArrayWriteV3 TensorListConcat TensorListConcatV2 TensorListElementShape
        TensorListFromTensor TensorListGather TensorListGetItem TensorListLength
        TensorListPopBack TensorListPushBack TensorListReserve TensorListResize
        TensorListScatter TensorListScatterIntoExistingList TensorListScatterV2
        TensorListSetItem TensorListSplit TensorListStack
        RaggedTensorFromVariant RaggedTensorToSparse RaggedTensorToTensor RaggedTensorToVariant
        RaggedGather RaggedRange""",
    "variables of the model, in memory": """
        Assign AssignAdd AssignAddVariableOp AssignSub AssignSubVariableOp AssignVariableOp
        DestroyResourceOp IsVariableInitialized ReadVariableOp ResourceGather ResourceGatherNd
        ResourceScatterUpdate VarHandleOp VarIsInitializedOp Variable VariableShape VariableV2
        DisableCopyOnRead""",
    "tables of the model, in memory, filled from its own constants": """
        AnonymousHashTable AnonymousMutableHashTable HashTable HashTableV2 InitializeTable
        InitializeTableV2 LookupTableFind LookupTableFindV2 LookupTableImport LookupTableImportV2
        LookupTableInsertV2 LookupTableSize LookupTableSizeV2 MutableHashTableV2""",
}
COMPUTING = frozenset(name for names in _BY_KIND.values() for name in names.split())

# How every SavedModel can be written again. Loading one never runs these: they may stand in
# what `saver_def` names, and nowhere else.
SAVING = frozenset(
    """
    MergeV2Checkpoints RestoreV2 Restore RestoreSlice Save SaveSlices SaveV2 ShardedFilename
    ShardedFilespec""".split()
)
