"""Image files that cannot be used, and odd ones that can, as they turn up in real folders."""

import io
import struct
import zlib

import numpy as np
import PIL.Image


def photo(height=60, width=80, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3)).astype("uint8")
    return PIL.Image.fromarray(small).resize((width, height), PIL.Image.BICUBIC)


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _bomb_png(side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _png_chunk(b"IHDR", header)
        + _png_chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + _png_chunk(b"IEND", b"")
    )


def _bomb_jpeg(side):
    data = encoded(photo())
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", side, side) + data[place + 4 :]


def _bomb_webp():
    data = bytearray(encoded(photo(), "WEBP", lossless=True))
    data[21:25] = b"\xff\xff\xff\x0f"  # both sides less one, 14 bits each
    return bytes(data)


def _transparent():
    image = photo().convert("RGBA")
    image.putalpha(PIL.Image.linear_gradient("L").resize(image.size))
    return image


def _small_frame():
    """A GIF whose frame covers a part of its screen of 70 x 60."""
    data = bytearray(encoded(photo(40, 50), "GIF"))
    data[6:10] = struct.pack("<HH", 70, 60)
    return bytes(data)


def bad():
    """Returns {name: (bytes, what the reason must say)}."""
    jpeg, png, webp = encoded(photo()), encoded(photo(), "PNG"), encoded(photo(), "WEBP")
    damaged, other = "damaged or cut off", "is needed"
    return {
        "half.jpg": (jpeg[: len(jpeg) // 2], damaged),
        "three_bytes.jpg": (jpeg[:3], damaged),
        "header.jpg": (jpeg[:200], damaged),
        "no_pixels.jpg": (jpeg[: jpeg.index(b"\xff\xda")], damaged),
        "empty.jpg": (b"", "file is empty"),
        "zeros.jpg": (b"\0" * 5000, "not an image"),
        "text.jpg": (b"no image at all", "not an image: it begins with b'no image'"),
        "html.jpg": (b"<!DOCTYPE html><html>404</html>", "such as a web page"),
        "tiff.jpg": (encoded(photo(), "TIFF"), "TIFF"),
        "half.webp": (webp[: len(webp) // 2], damaged),
        "header.webp": (webp[:16], damaged),
        "animated.webp": (
            encoded(photo(), "WEBP", save_all=True, append_images=[photo(seed=1)]),
            "animated WebP image",
        ),
        "flags.webp": (encoded(_transparent(), "WEBP")[:20], damaged),
        "bomb.webp": (_bomb_webp(), "claims 16,384 x 16,384 pixels"),
        "heic.jpg": (b"\0\0\0\x18ftypheic" + b"\0" * 40, "HEIC"),
        "pdf.png": (b"%PDF-1.4", other),
        "half.png": (png[: len(png) // 2], damaged),
        "signature.png": (png[:8], damaged),
        "flipped.png": (png[:100] + bytes([png[100] ^ 255]) + png[101:], damaged),
        "half.gif": (encoded(photo(), "GIF")[:500], damaged),
        "byte.gif": (b"G", "not an image"),
        "small_frame.gif": (_small_frame(), "first frame has 50 x 40 pixels"),
        "half.bmp": (encoded(photo(), "BMP")[:500], damaged),
        "bomb.png": (_bomb_png(20_000), "claims 20,000 x 20,000 pixels"),
        "bomb.jpg": (_bomb_jpeg(20_000), "claims 20,000 x 20,000 pixels"),
    }


def odd():
    """Returns {name: bytes} of files that can be used."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    sixteen = np.random.default_rng(0).integers(0, 65536, (30, 40)).astype("uint16")
    return {
        "cmyk.jpg": encoded(photo().convert("CMYK")),
        "png_by_name_jpg.jpg": encoded(photo(), "PNG"),
        "grey.jpg": encoded(photo().convert("L")),
        "progressive.jpg": encoded(photo(), progressive=True),
        "sixteen_bits.png": encoded(PIL.Image.fromarray(sixteen), "PNG"),
        "one_pixel.png": encoded(photo(1, 1), "PNG"),
        "one_pixel.jpg": encoded(photo(1, 1)),
        "thin.jpg": encoded(photo(3, 300)),
        "bitmap.bmp": encoded(photo(), "BMP"),
        "animated.gif": encoded(photo(), "GIF", save_all=True, append_images=[photo(seed=1)]),
        "lossy.webp": encoded(photo(), "WEBP"),
        "named.jpg": encoded(photo(1, 1), "WEBP"),
        "lossless.webp": encoded(photo(), "WEBP", lossless=True),
        "alpha.webp": encoded(_transparent(), "WEBP"),
        "lossless_alpha.webp": encoded(_transparent(), "WEBP", lossless=True),
        "canvas.webp": encoded(photo(), "WEBP", exif=exif.tobytes()),
        "alpha.png": encoded(photo().convert("RGBA"), "PNG"),
        "palette.png": encoded(photo().convert("P"), "PNG"),
        "one_bit.png": encoded(photo().convert("1"), "PNG"),
        "turned.jpg": encoded(photo(), exif=exif.tobytes()),
    }
