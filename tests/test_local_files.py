"""local_files.py and class_names.py: what is read of a stranger's disk, and what is left alone."""

import os
import socket

import pytest

from effnet_tf import class_names, local_files
from effnet_tf.errors import InputError
from tests.helpers import hostile


def write(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def images(*roots):
    """(paths of the images below folders, the `Walk` that found them)."""
    walk = local_files.Walk()
    for root in roots:
        assert walk.enter(str(root)) is None
    return [path for root in roots for path in walk.images(str(root))], walk


class TestWalk:
    def test_finds_images_by_any_spelling_of_their_suffix(self, tmp_path):
        names = ["a.jpg", "b.JPEG", "c.jpe", "d.jfif", "e.PNG", "f.bmp", "g.Gif", "h.WEBP"]
        for name in names:
            write(tmp_path / "more" / name)
        assert [os.path.basename(path) for path in images(tmp_path)[0]] == names

    def test_links_to_folders_end(self, tmp_path):
        for number in range(3):
            write(tmp_path / "cat" / f"{number}.jpg")
            write(tmp_path / "dog" / f"{number}.jpg")
        (tmp_path / "cat" / "up").symlink_to(tmp_path)
        (tmp_path / "cat" / "self").symlink_to(tmp_path / "cat")
        (tmp_path / "dog" / "other").symlink_to(tmp_path / "cat")
        (tmp_path / "dog" / "a").symlink_to(tmp_path / "dog" / "b")
        (tmp_path / "dog" / "b").symlink_to(tmp_path / "dog" / "a")
        walk = local_files.Walk()
        for name in ("", "cat", "dog"):
            walk.enter(str(tmp_path / name))
        found = [walk.images(str(tmp_path / name)) for name in ("cat", "dog")]
        assert [len(paths) for paths in found] == [3, 3]
        assert walk.left_out["links to folders that are there already"] == 3
        assert walk.left_out["links that lead nowhere"] == 2

    def test_every_file_once(self, tmp_path):
        write(tmp_path / "cat" / "1.jpg")
        os.link(tmp_path / "cat" / "1.jpg", tmp_path / "cat" / "2.jpg")
        (tmp_path / "dog").mkdir()
        (tmp_path / "dog" / "3.jpg").symlink_to(tmp_path / "cat" / "1.jpg")
        found, walk = images(tmp_path / "cat", tmp_path / "dog")
        assert [os.path.basename(path) for path in found] == ["1.jpg"]
        (line,) = walk.report()
        assert line == (
            "Left out 2: links to images that are there already, such as "
            f"{tmp_path}/cat/2.jpg = {tmp_path}/cat/1.jpg"
        )

    def test_regular_files_only(self, tmp_path, monkeypatch):
        os.mkfifo(tmp_path / "fifo.jpg")
        (tmp_path / "zero.jpg").symlink_to("/dev/zero")
        with socket.socket(socket.AF_UNIX) as unix:
            monkeypatch.chdir(tmp_path)  # the path of a socket may have 108 bytes
            unix.bind("socket.jpg")
            found, walk = images(tmp_path)
        assert not found and walk.left_out == {"not regular files (FIFOs, sockets, devices)": 3}

    def test_a_huge_file_is_not_read(self, tmp_path):
        with open(tmp_path / "sparse.png", "wb") as file:
            file.truncate(1 << 40)
        found, walk = images(tmp_path)
        assert not found and walk.left_out == {"larger than 256 MiB": 1}

    def test_litter_is_passed_over_and_other_images_are_named(self, tmp_path):
        for name in (
            "__MACOSX/._a.jpg",
            ".DS_Store",
            "Thumbs.db",
            "Desktop.ini",
            "@eaDir/a.jpg",
            ".ipynb_checkpoints/a.jpg",
        ):
            write(tmp_path / name)
        for name in ("a.tif", "b.TIFF", "c.heic", "d.avif", "e.svg", "f.pdf", "notes.txt"):
            write(tmp_path / name)
        found, walk = images(tmp_path)
        assert not found and sum(walk.left_out.values()) == 7
        assert any(
            line.startswith("Left out 2: TIFF files, which cannot be decoded: convert")
            for line in walk.report()
        )

    def test_any_name(self, tmp_path):
        for name in (*hostile.NAMES, hostile.NOT_UTF8):
            write(tmp_path / name / f"{name}.jpg")
        found, _ = images(tmp_path)
        assert len(found) == len(hostile.NAMES) + 1 and all(map(os.path.exists, found))

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_folder_that_may_not_be_read(self, tmp_path):
        (tmp_path / "closed").mkdir(mode=0)
        assert sum(images(tmp_path)[1].left_out.values()) == 1


class TestRead:
    def test_regular_files_up_to_a_limit(self, tmp_path):
        assert local_files.read(str(write(tmp_path / "a", b"abc")), 3) == b"abc"
        with pytest.raises(InputError, match="has 3 bytes; the limit is 2"):
            local_files.read(str(tmp_path / "a"), 2)
        os.mkfifo(tmp_path / "fifo")
        for path, kind in (
            (tmp_path / "fifo", "a FIFO"),
            ("/dev/zero", "a device"),
            (tmp_path, "a folder"),
        ):
            with pytest.raises(InputError, match=f"is {kind}; it must be a regular file"):
                local_files.read(str(path), 10)
        with pytest.raises(OSError):
            local_files.read(str(tmp_path / "none"), 10)


class TestClassNames:
    @pytest.mark.parametrize(
        "content",
        [
            b"red\ngreen\nlight blue\n",
            b"\xef\xbb\xbfred\ngreen\nlight blue",
            b"red\r\ngreen\r\nlight blue\r\n\r\n",
            b"red \n\tgreen\nlight blue\n  \n\n",
            b"red\rgreen\rlight blue\r",
        ],
    )
    def test_as_editors_write_them(self, content):
        assert class_names.parse(content, "f") == ("red", "green", "light blue")

    @pytest.mark.parametrize(
        "content, message",
        [
            (b"red\n\nblue\n", "'f' has an empty line, line 2"),
            (b"red\nblue\nred \n", "has the class 'red' twice, in line 1 and in line 3"),
            (b"red\nb\0lue\n", r"control character '\\x00' in line 2"),
            (b"red\ncaf\xe9\n", r"not UTF-8 text \(line 2\)"),
            ("red\nblue".encode("utf-16"), "not UTF-8 text"),
            (b"", "holds no class names"),
            (b"\n \n", "holds no class names"),
        ],
    )
    def test_faults(self, content, message):
        with pytest.raises(InputError, match=message):
            class_names.parse(content, "f")

    def test_what_is_written_is_what_is_read(self):
        for name in (*hostile.NAMES, hostile.NOT_UTF8, "\u2028", "\x85", ""):
            names = ("first", name)
            try:
                content = class_names.text(names, "classes.txt")
            except InputError as error:
                assert "rename the class" in str(error) and str(error).isprintable()
            else:
                assert class_names.parse(content.encode(), "classes.txt") == names
        assert class_names.text(("grün", "a,b", "100%"), "f") == "grün\na,b\n100%\n"
        with pytest.raises(InputError, match="one comes twice"):
            class_names.text(("a", "a"), "f")

    def test_read(self, tmp_path):
        assert class_names.read(str(write(tmp_path / "a.txt", b"a\nb"))) == ("a", "b")
        with pytest.raises(InputError, match="none.txt' cannot be read: .*No such file"):
            class_names.read(str(tmp_path / "none.txt"))
