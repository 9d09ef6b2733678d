"""The page: a photo in, gray and colour side by side, hints by clicks, and the file to download."""

import html
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from fastapi import FastAPI
from PIL import Image

from colorjax.colorize.batch import Options
from colorjax.colorize.hints import Hint, check_hints
from colorjax.colorize.links import Link, is_link
from colorjax.colorize.pictures import Photo
from colorjax.errors import UserError
from colorjax.web import previews
from colorjax.web.files import create_place, name_result
from colorjax.web.service import Result, Service
from colorjax.web.style import CSS, SCRIPT, SHOW_PHOTO

_HELP = """# colorjax
Give a photo, and see it in colour. Where you know better, choose a colour and click on the photo:
the colour spreads over what belongs to it."""
_NOTE = (
    "The result keeps the photo's own size and detail. Photos stay on this server for an hour at "
    "most. There is an [HTTP API](docs) too."
)
_GONE = "The photo is no longer here: give it again."


@dataclass(frozen=True)
class Given:
    """The photo that a visitor gave, and the hints that lie on it.

    Attributes:
      source: its file, which may be gone.
      name: that the visitor knows it by.
      preview: its small picture's file.
      width: of the upright photo, in pixels.
      height: likewise.
      hints: in the order in which they were put.
    """

    source: Path
    name: str
    preview: Path
    width: int
    height: int
    hints: tuple[Hint, ...] = ()


def mount_page(app: FastAPI, service: Service, folder: Path) -> None:
    """Let the application answer with the page, too.

    Args:
      app: of the API.
      service: that colours.
      folder: of the page's files; Gradio is told of no other.
    """
    blocks = Page(service, folder).build()
    # Where it doesn't launch a server itself, Gradio leaves out to check what files it is named.
    blocks.has_launched = True
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        show_error=False,
        max_file_size=service.limits.upload,
        theme=_create_theme(),
        css=CSS,
        js=SCRIPT,
    )


def _create_theme() -> gr.themes.Base:
    """Return a plain theme of the visitor's own fonts: none is fetched."""
    fonts = ["system-ui", "sans-serif"]
    return gr.themes.Default(
        primary_hue="emerald", neutral_hue="stone", font=fonts, font_mono=["monospace"]
    )


class Page:
    """Builds the page, and answers what is done on it.

    Args:
      service: that colours.
      folder: of the page's files.
    """

    def __init__(self, service: Service, folder: Path) -> None:
        self._service, self._folder = service, folder
        self._examples = previews.draw_examples(folder / "examples")

    def build(self) -> gr.Blocks:
        """Return the page."""
        with gr.Blocks(title="colorjax", analytics_enabled=False) as blocks:
            gr.Markdown(_HELP, elem_id="help")
            self._message = gr.Markdown(visible=False, elem_id="message")
            with gr.Row(equal_height=False, elem_classes="desk"):
                with gr.Column():
                    self._build_photo()
                with gr.Column():
                    self._build_result()
            with gr.Row(equal_height=False, elem_classes="desk"):
                with gr.Column():
                    self._build_link()
                with gr.Column():
                    self._build_examples()
            gr.Markdown(_NOTE, elem_id="note")
            self._given = gr.State()
            self._connect()
        # The service has a queue of its own, which counts the API's photos, too.
        return blocks.queue(default_concurrency_limit=None)

    def _build_photo(self) -> None:
        self._photo = gr.Image(
            label="Photo",
            sources=["upload", "clipboard"],
            height=420,
            buttons=[],
            placeholder="Drop or paste a photo here\n\nor click to choose one",
            elem_id="photo",
        )
        with gr.Row(equal_height=True, elem_id="hints"):
            self._color = gr.ColorPicker(
                "#c03028", label="Hint's colour", min_width=90, elem_id="color"
            )
            self._undo = gr.Button(
                "Undo hint", min_width=90, size="sm", elem_id="undo", interactive=False
            )
            self._clear = gr.Button(
                "Clear hints", min_width=90, size="sm", elem_id="clear", interactive=False
            )
        self._hints = gr.HTML(_describe_hints(()), elem_id="hint-list")

    def _build_link(self) -> None:
        self._link = gr.Textbox(
            label="Or give a link, or take an example",
            placeholder="https://…",
            submit_btn="Fetch",
            max_lines=1,
            max_length=2000,
            elem_id="link",
        )

    def _build_examples(self) -> None:
        self._gallery = gr.Gallery(
            [str(path) for path in self._examples],
            label="Examples",
            show_label=False,
            columns=len(self._examples),
            allow_preview=False,
            interactive=False,
            object_fit="cover",
            format="png",
            buttons=[],
            elem_id="examples",
        )

    def _build_result(self) -> None:
        self._slider = gr.ImageSlider(
            label="Gray | colour",
            interactive=False,
            height=420,
            max_height=420,
            buttons=["fullscreen"],
            elem_id="result",
        )
        self._download = gr.DownloadButton(
            "Download", variant="primary", interactive=False, elem_id="download"
        )
        names = self._service.models
        with gr.Row():
            self._model = gr.Dropdown(
                names, value=names[0], label="Model", visible=len(names) > 1, elem_id="model"
            )
            self._upsample = gr.Radio(
                [("along edges", "guided"), ("smoothly", "bicubic")],
                value="guided",
                label="Enlarge colour",
                elem_id="upsample",
            )
        self._saturation = gr.Slider(
            0.0, 2.0, 1.0, step=0.05, label="Saturation", buttons=["reset"], elem_id="saturation"
        )

    def _connect(self) -> None:
        """Tell what is called when."""
        choices = [self._model, self._saturation, self._upsample]
        shown = [self._message, self._given, self._photo, self._hints]
        shown += [self._undo, self._clear, self._slider, self._download]
        listen: dict[str, Any] = {"api_visibility": "private", "outputs": shown}
        waiting: dict[str, Any] = {"show_progress_on": [self._slider], **listen}
        # As it was sent: Gradio would decode it, and encode it anew.
        sent = gr.State()
        self._photo.upload(
            _note_upload, self._photo, sent, preprocess=False, api_visibility="private"
        ).success(self.take_upload, [sent, *choices], **waiting)
        self._photo.clear(self.forget, None, **listen)
        self._link.submit(self.take_link, [self._link, *choices], **waiting)
        self._gallery.select(self.take_example, choices, **waiting)
        # On a phone these lie below the photo.
        for event in (self._link.submit, self._gallery.select):
            event(None, js=SHOW_PHOTO, api_visibility="private")
        quick = {"show_progress": "hidden", "trigger_mode": "multiple", **listen}
        changes: list[Any] = [
            self._photo.select(self.add_hint, [self._given, self._color], **quick).success,
            self._undo.click(self.undo_hint, [self._given], **quick).success,
            self._clear.click(self.clear_hints, [self._given], **quick).success,
            self._saturation.change,
            self._upsample.input,
            self._model.input,
        ]
        for change in changes:
            change(
                self.colorize_again,
                [self._given, *choices],
                trigger_mode="always_last",
                show_progress="minimal",
                **waiting,
            )

    # What is done on the page: each returns what changes on it.

    def take_upload(
        self, sent: tuple[str, str] | None, model: str, saturation: float, upsample: str
    ) -> dict[Any, Any]:
        """Colour the file that was sent."""
        if sent is None:
            return self.forget()
        path, name = sent
        return self._take(Path(path), name, model, saturation, upsample)

    def take_link(self, url: str, model: str, saturation: float, upsample: str) -> dict[Any, Any]:
        """Colour what a link leads to."""
        if not is_link(url.strip()):
            return self._complain("Give a link that begins with http:// or https://.")
        link = Link(url.strip())
        return self._take(link, str(link.place), model, saturation, upsample)

    def take_example(
        self, model: str, saturation: float, upsample: str, event: gr.SelectData
    ) -> dict[Any, Any]:
        """Colour one of the examples."""
        path = self._examples[int(event.index) % len(self._examples)]
        return self._take(path, path.name, model, saturation, upsample)

    def colorize_again(
        self, given: Given | None, model: str, saturation: float, upsample: str
    ) -> dict[Any, Any]:
        """Colour the same photo with other choices or hints."""
        if given is None:
            return {}
        if not given.source.exists():
            return self._complain(_GONE)
        try:
            result = self._colorize(given.source, model, saturation, upsample, given.hints)
        except UserError as error:
            return self._complain(str(error))
        return self._show_result(given, result)

    def add_hint(self, given: Given | None, color: str, event: gr.SelectData) -> dict[Any, Any]:
        """Put a hint where the photo was clicked."""
        if given is None:
            return {}
        try:
            hint = _place_hint(given, event.index, color)
        except (UserError, ValueError, TypeError) as error:
            return self._complain(f"No hint can be put there: {error}")
        return self._show_hints(replace(given, hints=(*given.hints, hint)))

    def undo_hint(self, given: Given | None) -> dict[Any, Any]:
        """Take the last hint away."""
        return self._show_hints(replace(given, hints=given.hints[:-1])) if given else {}

    def clear_hints(self, given: Given | None) -> dict[Any, Any]:
        """Take all hints away."""
        return self._show_hints(replace(given, hints=())) if given else {}

    def forget(self) -> dict[Any, Any]:
        """Empty the page."""
        return {
            self._message: gr.update(visible=False),
            self._given: None,
            self._photo: None,
            self._slider: None,
            self._download: gr.update(value=None, interactive=False, label="Download"),
            **self._list_hints(()),
        }

    def _take(
        self, source: Path | Link, name: str, model: str, saturation: float, upsample: str
    ) -> dict[Any, Any]:
        """Colour another photo, whose hints are yet to be put."""
        try:
            if isinstance(source, Path):
                return self._show(source, name, model, saturation, upsample)
            with self._service.fetched(source) as path:
                kept = create_place(self._folder, "photo")
                shutil.copyfile(path, kept)
            return self._show(kept, name, model, saturation, upsample)
        except UserError as error:
            return self.forget() | self._complain(str(error))

    def _show(
        self, source: Path, name: str, model: str, saturation: float, upsample: str
    ) -> dict[Any, Any]:
        result = self._colorize(source, model, saturation, upsample)
        small = previews.resize(result.photo)
        preview = create_place(self._folder, "photo.jpg")
        previews.save_preview(small, preview)
        height, width, _ = result.image.shape
        given = Given(source, name, preview, width, height)
        shown = {self._given: given, self._photo: str(preview), **self._list_hints(())}
        return shown | self._show_result(given, result)

    def _colorize(
        self,
        source: Path,
        model: str,
        saturation: float,
        upsample: str,
        hints: Sequence[Hint] = (),
    ) -> Result:
        options = Options(saturation=saturation, upsample=upsample, hints=hints)
        return self._service.colorize(source, options, model)

    def _show_result(self, given: Given, result: Result) -> dict[Any, Any]:
        """Return gray and colour, and the file to download."""
        gray = previews.to_gray(previews.resize(result.photo))
        colored = previews.resize(Photo(result.image, result.photo.alpha))
        pair = [("gray.jpg", gray), ("colour.jpg", colored)]
        place = create_place(self._folder, name_result(given.name))
        place.write_bytes(result.png)
        size = f"{given.width} x {given.height}"
        return {
            self._message: gr.update(visible=False),
            self._slider: tuple(
                previews.save_preview(image, place.with_name(name)) for name, image in pair
            ),
            self._download: gr.update(
                value=str(place), interactive=True, label=f"Download PNG, {size}"
            ),
        }

    def _show_hints(self, given: Given) -> dict[Any, Any]:
        """Return the photo with its hints upon it."""
        if not given.preview.exists():
            return self._complain(_GONE)
        shown = given.preview
        if given.hints:
            small = np.asarray(Image.open(given.preview))
            scale = max(small.shape) / max(given.width, given.height)
            marked = previews.mark_hints(small, given.hints, scale)
            shown = create_place(self._folder, "photo.jpg")
            previews.save_preview(marked, shown)
        return {self._given: given, self._photo: str(shown), **self._list_hints(given.hints)}

    def _list_hints(self, hints: Sequence[Hint]) -> dict[Any, Any]:
        return {
            self._hints: _describe_hints(hints),
            self._undo: gr.update(interactive=bool(hints)),
            self._clear: gr.update(interactive=bool(hints)),
        }

    def _complain(self, sentence: str) -> dict[Any, Any]:
        """Say what is wrong, and leave the rest of the page as it is."""
        return {self._message: gr.update(value=html.escape(sentence), visible=True)}


def _note_upload(sent: Any) -> tuple[str, str] | None:
    """Return the path of an upload, and its name at the visitor's."""
    return (sent["path"], sent.get("orig_name") or "") if sent else None


def _place_hint(given: Given, index: Any, color: str) -> Hint:
    """Return the hint that a click on the small picture puts on the photo."""
    with Image.open(given.preview) as small:
        scale = max(given.width, given.height) / max(small.size)
    x, y = (int((int(place) + 0.5) * scale) for place in index)
    hint = Hint(x, y, _write_color(color))
    check_hints([hint], given.height, given.width)
    return hint


def _write_color(color: str) -> str:
    """Return a colour that the page's picker gives, `#rrggbb` or `rgba(r, g, b, a)`, as #rrggbb."""
    if not color.startswith("rgb"):
        return color
    red, green, blue = (float(part) for part in re.findall(r"[\d.]+", color)[:3])
    return "#" + "".join(f"{min(max(round(part), 0), 255):02x}" for part in (red, green, blue))


def _describe_hints(hints: Sequence[Hint]) -> str:
    if not hints:
        return "<p>No hints yet: choose a colour and click on the photo.</p>"
    items = (
        f'<li><span style="background:{hint.color}"></span>{hint.x}, {hint.y}</li>'
        for hint in hints
    )
    return f"<ul>{''.join(items)}</ul>"
