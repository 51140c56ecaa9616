"""Names that break programs which take a name for something else than a name.

One list for every place where a name of the user's (path, class, split, field) reaches a
pattern, a formatter, a terminal, a picture, HTML, JSON or a file format.
"""

# Each can be the name of a file or folder, and of a class.
NAMES = (
    "a[0-9]b",
    "a]b",
    "a*b",
    "a?b",
    "a\\b",  # patterns
    "100%",
    "%s %d",
    "{x}",
    "{0!r:>9}",
    "$\\frac{$",
    "a_b^c",  # formatters, mathtext
    "<script>alert(1)</script>".replace("/", "\u2215"),
    "&amp;",
    "'",
    '"',  # HTML, quotes
    "two words",
    " leading",
    "trailing ",
    "-rf",
    "#no comment",
    "~",
    "a,b",
    "a;b",
    "a:b",
    "a@3",
    "grün",
    "日本語",
    "e\u0301",
    "\u202egnp.exe",
    "🐈",  # not ASCII, right to left
    "\x1b[31mred",
    "bell\x07",
    "tab\tbed",
    "line\nbreak",
    "carriage\rreturn",  # terminals
    "con",
    "nul.txt",
    "NaN",
    "none",
    "True",
    "0x1",
    "1e3",  # read as something else
)

# Bytes that are no UTF-8; Python carries them in surrogates (os.fsdecode).
NOT_UTF8 = b"caf\xe9".decode("utf-8", "surrogateescape")
