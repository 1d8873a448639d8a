"""`fastlog backup` and `fastlog restore`: topics and groups to files or an object store, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fastlog.cli import report
from fastlog.cli.options import bootstrap_option, config_option, json_option

if TYPE_CHECKING:
    from fastlog.backup.manifest import Manifest
    from fastlog.errors import UnreadableBackupError


@click.command()
@click.argument("place")
@click.option("--topic", "topics", multiple=True, metavar="NAME", help="Only this topic, or several.  [all]")
@click.option("--group", "groups", multiple=True, metavar="NAME", help="Only this group, or several.  [all]")
@click.option("--no-groups", is_flag=True, help="No positions of groups.")
@click.option(
    "--verify-kept",
    type=click.FloatRange(0, 100),
    default=1.0,
    metavar="PERCENT",
    help="How much of what PLACE has already is read and compared, in turn; the rest by its size.  [1]",
)
@bootstrap_option
@json_option
def backup(
    place: str,
    topics: tuple[str, ...],
    groups: tuple[str, ...],
    verify_kept: float,
    bootstrap: str,
    *,
    no_groups: bool,
    as_json: bool,
) -> int:
    """Back up topics and the positions of groups to PLACE: a directory, or s3://bucket/prefix.

    What an earlier backup in PLACE has is not fetched again, and one that was interrupted goes on. The cluster may
    be any that speaks Kafka's protocol.

    Without --topic, a partition that cannot be read does not end the backup of the others: it is named, also in the
    backup, and the command fails at the end. The next one fetches what is missing.
    """
    if groups and no_groups:
        raise click.UsageError("give either --group or --no-groups")
    from fastlog.backup.archive import open_archive
    from fastlog.backup.saving import back_up

    with report.progress("backing up", None) as done:
        manifest = back_up(
            bootstrap,
            open_archive(place),
            topics=topics,
            groups=[] if no_groups else groups or None,
            verify_percent=verify_kept,
            done=done,
            tell=_warn,
        )
    _tell("backed up", manifest, as_json=as_json)
    return int(bool(manifest.gaps()))


@click.command()
@click.argument("place")
@click.option("--topic", "topics", multiple=True, metavar="NAME", help="Only this topic, or several.  [all]")
@click.option("--group", "groups", multiple=True, metavar="NAME", help="Only this group, or several.  [all]")
@click.option("--taken", metavar="TIME", help="Which backup, by the name that --list shows.  [the newest]")
@click.option(
    "--replication-factor", type=int, default=-1, help="Replicas of each topic.  [the cluster's default]"
)
@config_option("A setting for each topic, in place of its own of that name; any number of times.")
@click.option("--incomplete", is_flag=True, help="Also topics of which the backup does not have all.")
@click.option("--list", "only_list", is_flag=True, help="Only show which backups there are.")
@click.option("--check", "only_check", is_flag=True, help="Only read all of the backup and check it.")
@bootstrap_option
@json_option
def restore(
    place: str,
    topics: tuple[str, ...],
    groups: tuple[str, ...],
    taken: str | None,
    replication_factor: int,
    config: dict[str, str],
    bootstrap: str,
    *,
    incomplete: bool,
    only_list: bool,
    only_check: bool,
    as_json: bool,
) -> int:
    """Bring topics and positions of groups back from PLACE: the same records at the same offsets.

    Topics are made, and none that exists is written to. What was interrupted goes on when the command is given again.
    """
    from fastlog.backup import archive as archives
    from fastlog.backup.reading import verify
    from fastlog.backup.restoring import restore as bring_back

    archive = archives.open_archive(place)
    if only_list:
        found = list(archives.manifests_of(archive))[::-1]
        if not found:
            _warn(f"there is no backup in {archive}")
        _list(found, as_json=as_json)
        return 0
    manifest = archives.manifest_of(archive, taken)
    _tell_age(manifest)
    total = sum(topic.size_bytes for topic in manifest.topics if not topics or topic.name in topics)
    label = "checking" if only_check else "restoring"
    with report.progress(label, total, unit="bytes") as done:
        if only_check:
            verify(archive, manifest, done)
        else:
            bring_back(
                bootstrap,
                archive,
                manifest,
                topics=topics,
                groups=groups,
                configs=config,
                replication_factor=replication_factor,
                incomplete=incomplete,
                done=done,
                tell=_warn,
            )
    _tell("checked" if only_check else "restored", manifest, as_json=as_json, topics=topics)
    if not only_check:
        return 0
    for gap in manifest.gaps():
        _warn(f"{gap}: the rest is not in this backup")
    return int(bool(manifest.gaps()))


def _rows(manifest: Manifest, topics: tuple[str, ...] = ()) -> list[dict[str, object]]:
    return [
        {
            "topic": topic.name,
            "partitions": len(topic.partitions),
            "offsets": sum(it.end - it.start for it in topic.partitions),
            "bytes": topic.size_bytes,
        }
        for topic in manifest.topics
        if not topics or topic.name in topics
    ]


def _tell(what: str, manifest: Manifest, *, as_json: bool, topics: tuple[str, ...] = ()) -> None:
    rows = _rows(manifest, topics)
    if as_json:
        report.print_json(
            {
                "taken": manifest.taken,
                "topics": rows,
                "groups": [it.group_id for it in manifest.groups],
                "gaps": [
                    gap for it in manifest.topics if not topics or it.name in topics for gap in it.gaps()
                ],
            }
        )
        return
    if rows:
        report.print_table(tuple(rows[0]), [tuple(row.values()) for row in rows])
    groups = report.counted(len(manifest.groups), "group")
    click.echo(f"{what}: {manifest.taken}, {report.counted(len(rows), 'topic')}, {groups}")


def _tell_age(manifest: Manifest) -> None:
    """Which backup it is: on standard error, so that nobody takes an old one unawares."""
    from fastlog.backup.names import CLOSE, age, moment_of, now

    moment = now()
    taken = moment_of(manifest.clock or manifest.taken)
    if taken is None:
        return
    if taken > moment + CLOSE:
        _warn(
            f"{manifest.taken} lies {age(taken, moment)} in the future: this machine's clock is wrong now, or that of "
            "the backup was when it was taken, and there may be a later one; --list shows all, --taken takes one"
        )
        return
    clock = f" (at {manifest.clock} by the clock)" if manifest.clock else ""
    click.echo(f"{manifest.taken}: taken {age(taken, moment)} ago{clock}", err=True)


def _warn(message: str) -> None:
    click.echo(f"fastlog: {message}", err=True)


def _list(found: list[tuple[str, Manifest | UnreadableBackupError]], *, as_json: bool) -> None:
    rows: list[dict[str, object]] = []
    for name, it in found:
        row: dict[str, object] = dict.fromkeys(
            ("taken", "cluster", "topics", "groups", "bytes", "gaps", "error")
        )
        row["taken"] = name
        # only UnreadableBackupError is an exception here; the manifests' class takes long to import
        if isinstance(it, Exception):
            row["error"] = str(it)
        else:
            row["cluster"], row["topics"], row["groups"] = it.cluster_id, len(it.topics), len(it.groups)
            row["bytes"] = sum(topic.size_bytes for topic in it.topics)
            row["gaps"] = len(it.gaps())
        rows.append(row)
    if as_json:
        report.print_json(rows)
        return
    if not rows:
        return
    columns = ("taken", "cluster", "topics", "groups", "bytes")
    report.print_table(columns, [[report.cell(row[it]) for it in columns] for row in rows])
    for row in rows:
        if row["error"]:
            _warn(f"{row['taken']} cannot be restored: {row['error']}")
        if row["gaps"]:
            _warn(f"{row['taken']} does not have all of {row['gaps']} partitions; --check names them")
