"""Which training step would a user of PyTorch take instead? For training_step.py and gpu.py.

`timm` is `timm.create_model("efficientnet_b0")` on images in PyTorch's order (N, C, H, W);
`timm:channels_last` the same in memory order (N, H, W, C), which most GPUs and oneDNN prefer;
`timm:compile` is that under `torch.compile`. RMSprop as in the steps beside it.
"""

WHO = ("timm", "timm:channels_last", "timm:compile")
CLASSES = 1000


def packages(who):
    """Returns the names of the packages that the steps of some names need besides Keras."""
    if set(WHO).isdisjoint(who):
        return []
    return ["timm"]


def step_of(who, variant, size, batch, half=False):
    """Returns a training step on one batch of noise: a function that gives the loss, a tensor.

    Args:
        who: one of `WHO`.
        variant: b0 to b7.
        size: side of the images, in pixels.
        batch: images.
        half: whether it computes in bfloat16, as PyTorch's autocast does.
    """
    import timm
    import torch

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    memory = torch.contiguous_format if who == "timm" else torch.channels_last
    model = timm.create_model(f"efficientnet_{variant}", num_classes=CLASSES).train()
    model = model.to(device, memory_format=memory)
    images = torch.randn(batch, 3, size, size, device=device).to(memory_format=memory)
    labels = torch.arange(batch, device=device) % CLASSES
    optimizer = torch.optim.RMSprop(model.parameters(), 1e-3, momentum=0.9)
    if who == "timm:compile":
        model = torch.compile(model)

    def step():
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=half):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def memory_mib():
    """Returns the most memory of the GPU that was in use, in MiB; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    return torch.cuda.max_memory_allocated() / 2**20
