"""The HTTP API: a picture or a link in, a PNG out; described at /docs."""

from typing import Any, Literal
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from colorjax.colorize.batch import Options
from colorjax.colorize.hints import parse_hint
from colorjax.colorize.links import Link, is_link
from colorjax.errors import UserError
from colorjax.web.files import name_result, received
from colorjax.web.service import RefusedError, Result, Service

_REASONS = {
    403: "The request comes from another site's page.",
    411: "The request doesn't say how long it is.",
    413: "The file has too many bytes, or the picture too many pixels.",
    415: "The request is neither a form nor JSON.",
    422: "The picture, the link or an option can't be used.",
    503: "Too many photos are waiting.",
    504: "The photo takes too long.",
}


class Choices(BaseModel):
    """What is asked of the result; the same as `colorjax colorize` takes."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str | None = Field(None, description="One that /api/models lists; else its first.")
    saturation: float = Field(1.0, ge=0, description="Factor of the colour; 0 is gray.")
    upsample: Literal["guided", "bicubic"] = Field("guided", description="How colour is enlarged.")
    lightness: Literal["input", "network"] = Field(
        "input", description="The picture's own, or that which a network of RGB predicts."
    )
    hints: list[str] = Field(
        [], description="Colours wanted at pixels of the upright picture, each x,y,#rrggbb."
    )

    @property
    def options(self) -> Options:
        """What the commands call these choices.

        Raises:
          UserError: if a hint is none.
        """
        hints = [parse_hint(text) for text in self.hints]
        return Options(
            saturation=self.saturation,
            upsample=self.upsample,
            lightness=self.lightness,
            hints=hints,
        )


class LinkRequest(Choices):
    """A picture on the web."""

    link: str = Field(description="http or https, at a public address.", max_length=2000)


class PictureRequest(Choices):
    """A picture that is sent."""

    picture: bytes = Field(json_schema_extra={"format": "binary"})


class Models(BaseModel):
    """The models that there are to choose from."""

    models: list[str] = Field(description="The first is taken where a request names none.")


class Health(BaseModel):
    """Whether the server answers."""

    status: Literal["ok"] = "ok"


class Problem(BaseModel):
    """Why a request was not done."""

    detail: str = Field(description="One sentence.")


def create_api(service: Service) -> FastAPI:
    """Return the application; its pages need nothing from other hosts."""
    app = FastAPIOffline(
        docs_url="/docs",
        redoc_url=None,
        title="colorjax",
        version="1",
        summary="Colours photos.",
        # Swagger UI would ask a server of its makers about the description.
        swagger_ui_parameters={"validatorUrl": None, "defaultModelsExpandDepth": -1},
    )
    _add_handlers(app)

    @app.get("/health")
    async def health() -> Health:
        """Return at once."""
        return Health()

    @app.get("/api/models")
    async def models() -> Models:
        """List the models."""
        return Models(models=service.models)

    @app.post(
        "/api/colorize",
        response_class=Response,
        responses=_describe_answers(),
        openapi_extra={"requestBody": {"required": True, "content": _describe_bodies()}},
    )
    async def colorize(request: Request) -> Response:
        """Colour a picture, sent as a form's file `picture`, or a link, sent as JSON.

        The result is a PNG of the picture's own size, the very bytes that `colorjax colorize`
        writes. No picture is kept.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            async with request.form(max_files=1, max_fields=200) as form:
                return _answer(*await _colorize_form(service, form))
        if kind == "application/json":
            body = LinkRequest.model_validate_json(await request.body())
            return _answer(*await _colorize_link(service, body))
        raise RefusedError(415, "Send a form with a file named picture, or JSON with a link.")

    return app


async def _colorize_form(service: Service, form: FormData) -> tuple[Result, str]:
    picture = form.get("picture")
    if not isinstance(picture, UploadFile):
        raise RefusedError(422, "The form has no file named picture.")
    fields: dict[str, Any] = {name: form[name] for name in form if name != "picture"}
    if "hints" in fields:
        fields["hints"] = form.getlist("hints")
    choices = Choices.model_validate(fields)
    with received(picture.file, service.limits.upload) as path:
        result = await run_in_threadpool(service.colorize, path, choices.options, choices.model)
    return result, picture.filename or ""


async def _colorize_link(service: Service, body: LinkRequest) -> tuple[Result, str]:
    if not is_link(body.link):
        raise RefusedError(422, "The link doesn't begin with http:// or https://.")
    link = Link(body.link)
    return await run_in_threadpool(service.colorize, link, body.options, body.model), str(
        link.place
    )


def _answer(result: Result, name: str) -> Response:
    disposition = f"inline; filename*=UTF-8''{quote(name_result(name), safe='')}"
    return Response(
        result.png, media_type="image/png", headers={"Content-Disposition": disposition}
    )


def _describe_answers() -> dict[int | str, dict[str, Any]]:
    done = {"description": "The photo in colour.", "content": {"image/png": {}}}
    answers: dict[int | str, dict[str, Any]] = {200: done}
    for status, reason in _REASONS.items():
        answers[status] = {"model": Problem, "description": reason}
    return answers


def _describe_bodies() -> dict[str, Any]:
    """Return the two kinds of bodies as OpenAPI describes them."""
    return {
        "multipart/form-data": {"schema": PictureRequest.model_json_schema()},
        "application/json": {"schema": LinkRequest.model_json_schema()},
    }


def _add_handlers(app: FastAPI) -> None:
    """Answer what goes wrong with one sentence."""

    @app.exception_handler(UserError)
    async def _(request: Request, error: UserError) -> JSONResponse:
        return refuse(error)

    @app.exception_handler(ValidationError)
    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: ValidationError | RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "The body"
        return refuse(RefusedError(422, f"{place} can't be used: {_lower(first['msg'])}."))

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> JSONResponse:
        detail = error.detail.rstrip(".") + "."
        return JSONResponse({"detail": detail}, error.status_code, error.headers)


def refuse(error: UserError) -> JSONResponse:
    """Return the answer to a request that is not done."""
    status = error.status if isinstance(error, RefusedError) else 422
    headers = {"Retry-After": "60"} if status == 503 else None
    return JSONResponse({"detail": str(error)}, status, headers)


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
