"""What a photo says about itself, kept where it is still true of the picture in colour."""

from dataclasses import dataclass

from PIL import ExifTags, Image

_Base = ExifTags.Base

# Of a picture's first directory only what describes the photo: TIFF keeps the layout of its file
# there too. The orientation is left out, as it has been applied.
_DESCRIPTIVE = (
    _Base.ImageDescription,
    _Base.Make,
    _Base.Model,
    _Base.XResolution,
    _Base.YResolution,
    _Base.ResolutionUnit,
    _Base.Software,
    _Base.DateTime,
    _Base.Artist,
    _Base.HostComputer,
    _Base.Copyright,
    _Base.Rating,
    _Base.XPTitle,
    _Base.XPComment,
    _Base.XPAuthor,
    _Base.XPKeywords,
    _Base.XPSubject,
)
_SRGB = 1  # of the tag ColorSpace


@dataclass(frozen=True)
class Metadata:
    """A photo's EXIF and XMP as they are written to files; empty where there is none.

    Attributes:
      exif: with its prefix `Exif`.
      xmp: a document of XML.
      is_damaged: whether there was EXIF that can't be kept.
    """

    exif: bytes = b""
    xmp: bytes = b""
    is_damaged: bool = False


def read_metadata(image: Image.Image) -> Metadata:
    """Return the metadata of an upright image that is to be written in sRGB.

    Orientation and embedded previews are left out, and so is the ICC profile. The EXIF tags of
    size and colour space say what will be true.

    Args:
      image: loaded, its orientation applied by `PIL.ImageOps.exif_transpose`, which takes it out
        of the XMP too.
    """
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    xmp = xmp.encode("utf-8", "replace") if isinstance(xmp, str) else bytes(xmp)
    try:
        return Metadata(_read_exif(image), xmp)
    except Exception:  # Pillow takes EXIF apart with few checks
        return Metadata(b"", xmp, is_damaged=True)


def _read_exif(image: Image.Image) -> bytes:
    found = image.getexif()
    kept = Image.Exif()
    for tag in _DESCRIPTIVE:
        if tag in found:
            kept[tag] = found[tag]
    details = dict(found.get_ifd(ExifTags.IFD.Exif))
    if details:
        details.pop(ExifTags.IFD.Interop, None)  # names the colour space of the file that was
        details |= {_Base.ColorSpace: _SRGB}
        details |= {_Base.ExifImageWidth: image.width, _Base.ExifImageHeight: image.height}
        kept[ExifTags.IFD.Exif] = details
    places = dict(found.get_ifd(ExifTags.IFD.GPSInfo))
    if places:
        kept[ExifTags.IFD.GPSInfo] = places
    return kept.tobytes() if len(kept) else b""
