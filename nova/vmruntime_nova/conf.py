"""The options of the [vmruntime] section."""

from oslo_config import cfg

GROUP = cfg.OptGroup("vmruntime", title="vmruntime", help="Containers as virtual machines, through vmruntime.")

OPTIONS = [
    cfg.StrOpt(
        "runtime",
        default="/usr/local/bin/vmruntime",
        help="Absolute path of the vmruntime program.",
    ),
    cfg.StrOpt(
        "root",
        default="/run/vmruntime-nova",
        help="Directory of the containers' state, vmruntime's --root. It is made where it is missing, and belongs on "
        "a file system that a reboot empties.",
    ),
    cfg.StrOpt(
        "cgroup_parent",
        default="/vmruntime-nova",
        help="Cgroup that each instance's own cgroup is made in. An instance must not be in nova-compute's: a "
        "restart of that would end it.",
    ),
    cfg.FloatOpt(
        "poll_interval",
        default=2,
        min=0.1,
        help="Seconds between two looks at the instances: how soon Nova learns that one has ended by itself, and "
        "how often console logs are cut.",
    ),
    cfg.IntOpt(
        "console_log_size",
        default=1024 * 1024,
        min=4096,
        help="Bytes that an instance's console log is cut to when it has more than twice as many.",
    ),
    cfg.StrOpt(
        "console_command",
        default="/bin/sh",
        help="Program in the container that a serial console has: a shell. An image without it has no such console.",
    ),
    cfg.IntOpt(
        "command_timeout",
        default=300,
        min=1,
        help="Seconds that a command of the runtime may take, those that move images aside.",
    ),
]


def register(conf: cfg.ConfigOpts) -> None:
    """Adds the options to conf. Repeating it changes nothing."""
    conf.register_group(GROUP)
    conf.register_opts(OPTIONS, group=GROUP)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """The options, for oslo-config-generator."""
    return [(GROUP, OPTIONS)]
