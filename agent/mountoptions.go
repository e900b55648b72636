package agent

import "golang.org/x/sys/unix"

// mountOptions are the options of one mount, sorted by what they act on.
type mountOptions struct {
	// flags are MS_*; cleared those that an option like "rw" asks not to have.
	flags, cleared uintptr
	// propagation is applied in order, each an MS_* with or without MS_REC.
	propagation []uintptr
	// recursiveSet and recursiveClear are MOUNT_ATTR_* for a whole tree.
	recursiveSet, recursiveClear uint64
	recursive                    bool
	copyUp                       bool
	// data is for the file system.
	data []string
}

type mountFlag struct {
	clear bool
	flag  uintptr
}

// mountFlags, recursiveFlags and propagations are the options of the runtime
// specification (config.md, "Linux mount options") with runc's additions.
var mountFlags = map[string]mountFlag{
	"async":         {true, unix.MS_SYNCHRONOUS},
	"atime":         {true, unix.MS_NOATIME},
	"bind":          {false, unix.MS_BIND},
	"defaults":      {false, 0},
	"dev":           {true, unix.MS_NODEV},
	"diratime":      {true, unix.MS_NODIRATIME},
	"dirsync":       {false, unix.MS_DIRSYNC},
	"exec":          {true, unix.MS_NOEXEC},
	"iversion":      {false, unix.MS_I_VERSION},
	"lazytime":      {false, unix.MS_LAZYTIME},
	"loud":          {true, unix.MS_SILENT},
	"mand":          {false, unix.MS_MANDLOCK},
	"noatime":       {false, unix.MS_NOATIME},
	"nodev":         {false, unix.MS_NODEV},
	"nodiratime":    {false, unix.MS_NODIRATIME},
	"noexec":        {false, unix.MS_NOEXEC},
	"noiversion":    {true, unix.MS_I_VERSION},
	"nolazytime":    {true, unix.MS_LAZYTIME},
	"nomand":        {true, unix.MS_MANDLOCK},
	"norelatime":    {true, unix.MS_RELATIME},
	"nostrictatime": {true, unix.MS_STRICTATIME},
	"nosuid":        {false, unix.MS_NOSUID},
	"nosymfollow":   {false, unix.MS_NOSYMFOLLOW},
	"rbind":         {false, unix.MS_BIND | unix.MS_REC},
	"relatime":      {false, unix.MS_RELATIME},
	"remount":       {false, unix.MS_REMOUNT},
	"ro":            {false, unix.MS_RDONLY},
	"rw":            {true, unix.MS_RDONLY},
	"silent":        {false, unix.MS_SILENT},
	"strictatime":   {false, unix.MS_STRICTATIME},
	"suid":          {true, unix.MS_NOSUID},
	"sync":          {false, unix.MS_SYNCHRONOUS},
	"symfollow":     {true, unix.MS_NOSYMFOLLOW},
}

var recursiveFlags = map[string]mountFlag{
	"rro":            {false, unix.MOUNT_ATTR_RDONLY},
	"rrw":            {true, unix.MOUNT_ATTR_RDONLY},
	"rnosuid":        {false, unix.MOUNT_ATTR_NOSUID},
	"rsuid":          {true, unix.MOUNT_ATTR_NOSUID},
	"rnodev":         {false, unix.MOUNT_ATTR_NODEV},
	"rdev":           {true, unix.MOUNT_ATTR_NODEV},
	"rnoexec":        {false, unix.MOUNT_ATTR_NOEXEC},
	"rexec":          {true, unix.MOUNT_ATTR_NOEXEC},
	"rnodiratime":    {false, unix.MOUNT_ATTR_NODIRATIME},
	"rdiratime":      {true, unix.MOUNT_ATTR_NODIRATIME},
	"rrelatime":      {false, unix.MOUNT_ATTR_RELATIME},
	"rnorelatime":    {true, unix.MOUNT_ATTR_RELATIME},
	"rnoatime":       {false, unix.MOUNT_ATTR_NOATIME},
	"ratime":         {true, unix.MOUNT_ATTR_NOATIME},
	"rstrictatime":   {false, unix.MOUNT_ATTR_STRICTATIME},
	"rnostrictatime": {true, unix.MOUNT_ATTR_STRICTATIME},
	"rnosymfollow":   {false, unix.MOUNT_ATTR_NOSYMFOLLOW},
	"rsymfollow":     {true, unix.MOUNT_ATTR_NOSYMFOLLOW},
}

var propagations = map[string]uintptr{
	"private":     unix.MS_PRIVATE,
	"rprivate":    unix.MS_PRIVATE | unix.MS_REC,
	"slave":       unix.MS_SLAVE,
	"rslave":      unix.MS_SLAVE | unix.MS_REC,
	"shared":      unix.MS_SHARED,
	"rshared":     unix.MS_SHARED | unix.MS_REC,
	"unbindable":  unix.MS_UNBINDABLE,
	"runbindable": unix.MS_UNBINDABLE | unix.MS_REC,
}

// parseMountOptions sorts options. One that no table has is the file system's.
func parseMountOptions(options []string) mountOptions {
	var o mountOptions
	for _, option := range options {
		if f, ok := mountFlags[option]; ok {
			o.addFlag(f)
		} else if f, ok := recursiveFlags[option]; ok {
			o.addRecursive(f)
		} else if p, ok := propagations[option]; ok {
			o.propagation = append(o.propagation, p)
		} else if option == "tmpcopyup" {
			o.copyUp = true
		} else if option != "" {
			o.data = append(o.data, option)
		}
	}
	return o
}

func (o *mountOptions) addFlag(f mountFlag) {
	if f.clear {
		o.flags &^= f.flag
		o.cleared |= f.flag
		return
	}
	o.flags |= f.flag
	o.cleared &^= f.flag
}

// addRecursive minds that the access time settings are one value, of which
// "relatime" is the zero: mount_setattr(2) wants all of it cleared first.
func (o *mountOptions) addRecursive(f mountFlag) {
	o.recursive = true
	flag := uint64(f.flag)
	if f.clear {
		o.recursiveSet &^= flag
		o.recursiveClear |= flag
	} else {
		o.recursiveSet |= flag
	}
	if flag == unix.MOUNT_ATTR_RELATIME || flag&unix.MOUNT_ATTR__ATIME != 0 {
		o.recursiveClear |= unix.MOUNT_ATTR__ATIME
	}
}

// attributes are the flags that belong to a mount, as MOUNT_ATTR_*.
func attributes(flags uintptr) uint64 {
	var attr uint64
	for _, f := range []struct {
		flag uintptr
		attr uint64
	}{
		{unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY},
		{unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID},
		{unix.MS_NODEV, unix.MOUNT_ATTR_NODEV},
		{unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC},
		{unix.MS_NODIRATIME, unix.MOUNT_ATTR_NODIRATIME},
		{unix.MS_NOSYMFOLLOW, unix.MOUNT_ATTR_NOSYMFOLLOW},
	} {
		if flags&f.flag != 0 {
			attr |= f.attr
		}
	}
	// Of the access time flags one counts, as in mount(2).
	switch {
	case flags&unix.MS_STRICTATIME != 0:
		attr |= unix.MOUNT_ATTR_STRICTATIME
	case flags&unix.MS_NOATIME != 0:
		attr |= unix.MOUNT_ATTR_NOATIME
	}
	return attr
}

// superFlags are the flags that belong to a file system, by the name that
// fsconfig(2) knows.
func superFlags(flags uintptr) []string {
	var names []string
	for _, f := range []struct {
		flag uintptr
		name string
	}{
		{unix.MS_SYNCHRONOUS, "sync"},
		{unix.MS_DIRSYNC, "dirsync"},
		{unix.MS_MANDLOCK, "mand"},
		{unix.MS_LAZYTIME, "lazytime"},
		{unix.MS_I_VERSION, "iversion"},
	} {
		if flags&f.flag != 0 {
			names = append(names, f.name)
		}
	}
	return names
}
