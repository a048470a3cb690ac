"""Make the commands of a list from lines, URLs of objects, or the values of variables."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping

from provisioner import reach
from provisioner.core.commands.templates import Template, from_values, from_variables, has_place
from provisioner.core.errors import CloudError, Invalid, Misconfigured
from provisioner.core.recipe import recipe as recipes
from provisioner.core.views.job import Job
from provisioner.faces.lists.lines import Text, encoded, values

#: A place in a bucket: the bucket's name (Amazon S3 User Guide, "General purpose bucket naming rules") and a prefix.
_URL = re.compile("s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", re.DOTALL)


def check(job: Job) -> None:
    """Raise Invalid if the job's recipe has fields that no list may have.

    The start of a run checks this, too, but only after the upload.
    """
    try:
        recipe = recipes.Recipe.load(json.dumps(job.recipe))
    except Invalid:
        return  # The server has a newer version, and checks it.
    recipes.with_fields(recipe, {"command": ["true"]}, f"map {job.name}")


def template_of(job: Job, template: str | None) -> Template:
    """Return the template, or the job's own command without one. Raises Invalid if that is a list."""
    if template is not None:
        if not template.strip():
            raise Invalid("the template is empty: write the command, with {} for the value")
        return Template(template, "the template")
    own = job.recipe["spec"]["command"]
    if not isinstance(own, str):
        raise Invalid(f"the command of job {job.name} is a list: give a template, which is used in its place")
    return Template(own.rstrip("\n"), f"the command of job {job.name}")


def from_lines(job: Job, pieces: Iterable[bytes], template: str | None) -> Text:
    """Return the list in a text: its lines are commands, or values of `{}` in the template or the job's command."""
    found = _with_values(job, template)
    return encoded(from_values(found, values(pieces))) if found else Text(pieces, null=False)


def from_texts(job: Job, texts: Iterable[str], template: str | None) -> Text:
    """Return the list of these commands, or of these values of `{}` in the template or the job's command."""
    found = _with_values(job, template)
    return encoded(from_values(found, texts) if found else texts)


def _with_values(job: Job, template: str | None) -> Template | None:
    own = job.recipe["spec"]["command"]
    if template is None and not (isinstance(own, str) and has_place(own)):
        return None
    found = template_of(job, template)
    if not found.takes_any:
        raise Invalid("the template has no {}: write {} where each value belongs, or leave the template out")
    return found


def from_each(job: Job, several: Iterable[Mapping[str, str]], template: str | None) -> Text:
    """Return the list with a command for each set of variables: the template, or the job's command, after them."""
    return encoded(from_variables(template_of(job, template), several))


def from_objects(job: Job, urls: Iterable[str], template: str | None) -> Text:
    """Return the list with a command for each URL, which is the value of `{}`."""
    found = template_of(job, template)
    if not found.takes_value:
        raise Invalid(f"{found.source} has no {{}}: write {{}} where the URL of each object belongs")
    return encoded(from_values(found, urls))


def urls_below(url: str) -> Iterator[str]:
    """Yield the URLs of the objects of a bucket below a prefix, in order of their keys; raises Invalid for none.

    They are listed with the AWS credentials of this process. Empty objects that consoles make to show a folder are left
    out.
    """
    found = _URL.fullmatch(url)
    if not found:
        raise Invalid(f"{url!r} is no place in a bucket: write s3://BUCKET/PREFIX")
    name, prefix = found[1], found[2] or ""
    empty = True
    try:
        for entry in reach.bucket(name).list(prefix):
            if entry.size or not entry.key.endswith("/"):
                empty = False
                yield f"s3://{name}/{entry.key}"
    except CloudError as error:
        if error.code != "AccessDenied":
            raise
        raise Misconfigured(f"your AWS credentials need s3:ListBucket for bucket {name}", error.code) from error
    if empty:
        raise Invalid(f"bucket {name} has no objects below {prefix!r}: check the prefix")
