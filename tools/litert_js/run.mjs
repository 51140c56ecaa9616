// Runs a .tflite file with LiteRT.js (WebAssembly, CPU) under node, and prints JSON.
//
//   node run.mjs MODEL.tflite INPUT.bin
//
// INPUT.bin holds the input tensor as it is. @litertjs/core is written for browsers: it loads
// its Emscripten script with `importScripts`, as in a web worker, which node lacks.
import fs from "node:fs";
import {createRequire} from "node:module";
import path from "node:path";
import vm from "node:vm";

const require = createRequire(import.meta.url);
const packageFolder = path.resolve(path.dirname(require.resolve("@litertjs/core")), "..");
const version = JSON.parse(fs.readFileSync(path.join(packageFolder, "package.json"))).version;

globalThis.self = globalThis;
globalThis.require = require;  // the script reads its .wasm file with node's fs,
globalThis.__dirname = path.join(packageFolder, "wasm");  // beside itself
globalThis.importScripts = (file) => vm.runInThisContext(
    fs.readFileSync(file, "utf8"), {filename: file});
globalThis.ReadableStreamDefaultReader ??= class {};

const [modelFile, inputFile] = process.argv.slice(2);
const {loadLiteRt, loadAndCompile, Tensor} = await import("@litertjs/core");
const log = console.log;
console.log = console.info = console.warn = console.error;  // standard output is the JSON's
await loadLiteRt(globalThis.__dirname + "/");

const model = await loadAndCompile(new Uint8Array(fs.readFileSync(modelFile)),
                                   {accelerator: "wasm"});
const [details] = model.getInputDetails();
const bytes = new Uint8Array(fs.readFileSync(inputFile));
const values = details.dtype === "float32" ? new Float32Array(bytes.buffer) : bytes;
// A dynamic batch is -1: give it one image.
const input = new Tensor(values, Array.from(details.shape, (side) => side < 0 ? 1 : side));
const [output] = await model.run([input]);
log(JSON.stringify({
  litertjs: version, node: process.version, signature: model.key,
  input: {name: details.name, dtype: details.dtype, shape: Array.from(details.shape)},
  output: {name: model.getOutputDetails()[0].name, values: Array.from(await output.data())},
  fullyAccelerated: model.isFullyAccelerated,
}));
process.exit(0);
