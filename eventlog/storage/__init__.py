"""The log on disk: written by `buffer`, read by `reader`, mended by `repair`.

`docs/reference/format.md` describes the bytes. What must never change: bytes once written stay as they
are, no file is opened for writing a second time, and a (writer, seq) never means two things.
"""
