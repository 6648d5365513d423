"""`upbeat page`: what is on one status page. What was declared of it is `upbeat pages`'."""

import io
import zipfile
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, get_args

import click

from exporters.outcome import Delivered, Rejected
from exporters.publishers.folder import Folder
from exporters.static import Rendered, StaticPublisher
from rules.page import MOST_PICTURE_BYTES, PictureUse
from upbeat.cli.client import Client, RefusedError
from upbeat.cli.listed import on_one
from upbeat.cli.output import Output, print_items


@click.group()
def page() -> None:
    """Work with what is on a status page."""


@page.command()
@on_one(
    "/pages",
    click.option(
        "--out",
        "folder",
        type=click.Path(path_type=Path, file_okay=False),
        help="A folder that is empty, or has an earlier export: then only what changed is written.",
    ),
    click.option("--zip", "archive", type=click.Path(path_type=Path, dir_okay=False), help="A zip file."),
    click.option("--base", default="", help="The path that leads to the page where it is read: /status."),
    click.option("--origin", default="", help="Scheme and host there: https://status.example.com."),
    click.option(
        "--index", is_flag=True, help="Let links name index.html, for hosts that do not look for it."
    ),
    click.option("--public", is_flag=True, help="Also of a page that is not public: the files are."),
)
async def export(api: Client, out: Output, folder: Path | None, archive: Path | None, **asked: Any) -> None:
    """Write a whole status page as static files, for any web server: all languages, history, feeds, badges."""
    if (folder is None) == (archive is None):
        raise click.UsageError("Give either --out or --zip.")
    content = await api.content("/export", **asked)
    with zipfile.ZipFile(io.BytesIO(content)) as zipped:
        names = zipped.namelist()
        if archive is not None:
            try:
                archive.write_bytes(content)
            except OSError as failure:
                raise click.UsageError(f"{archive} cannot be written: {failure.strerror}") from None
        else:
            assert folder is not None

            async def render() -> Rendered | Rejected:
                return Rendered(api.slug, "", ((name, zipped.read(name), "") for name in names))

            came = await StaticPublisher(Folder(str(folder.absolute())), render).write()
            if not isinstance(came, Delivered):
                raise RefusedError(f"It was not written: {came.reason}")
    place = str(archive or folder)
    out.done({"files": len(names), "place": place}, f"{len(names)} files are in {place}", brief=[place])


@page.command()
@on_one(
    "/pages",
    click.argument("name", type=click.Choice(get_args(PictureUse))),
    click.argument("file", type=click.File("rb")),
)
async def upload(api: Client, out: Output, name: PictureUse, file: BinaryIO) -> None:
    """Show this picture on a status page: PNG, JPEG, WebP, GIF, ICO or SVG of up to 1 MB. It is made anew from what is seen in it."""
    made = await api.put(f"/pictures/{name}", file.read(MOST_PICTURE_BYTES + 1))
    said = f"{api.slug} shows it as {made['media_type']} of {made['size_bytes']} bytes"
    out.done(made, said, brief=[made["file"]])


@page.command()
@on_one("/pages", click.option("--check", is_flag=True, help="Look for the record that proves it now."))
async def domain(api: Client, out: Output, check: bool) -> None:
    """Print the DNS records for a status page's own host name, or check them; 1 while it is not proved."""
    found = await (api.post("/domain/check") if check else api.get("/domain"))
    if found["domain"] is None:
        raise RefusedError(f"{api.slug} names no domain; set `domain:` first")

    def render(_: Any) -> None:
        print_items({name.upper(): itemgetter(name) for name in ("type", "name", "value")}, found["records"])
        is_shown = f"{found['domain']} shows {api.slug}" if found["is_verified"] else ""
        click.echo("\n" + (is_shown or found["problem"] or "Set them, then: --check"))

    out.show(found, render, brief=[record["value"] for record in found["records"]])
    if check and found["problem"]:
        raise SystemExit(1)
