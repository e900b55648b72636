// Package runtime is the OCI side: it reads bundles, refuses what cannot cross
// into a VM, keeps the state of containers on disk and tells their shims what to
// do.
//
// The way of a create: [LoadBundle] and [Bundle.Validate] say whether the bundle
// is sound, [Translate] turns it into a shim.Plan without touching anything,
// the state directory is made, shim.Spawn boots the machine while hooks run, and
// the pid file is written last. Everything else finds the shim by --root and id.
package runtime

// A Runtime is the containers under one --root and what they run with.
type Runtime struct {
	// Root is absolute.
	Root   string
	Config Config
	// Exe is this program, Build its version, Shim the shim that belongs to it.
	Exe   string
	Build string
	Shim  string
	// SystemdCgroup is --systemd-cgroup.
	SystemdCgroup bool
}
