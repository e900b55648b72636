package runtime

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vmruntime/vmruntime/vm"
	"github.com/vmruntime/vmruntime/vm/guest"
)

var errNoVirtiofs = errors.New("the guest has no virtiofs module: vmruntime guest build with a kernel that has it")

// checkVirtiofs tells what virtiofs lacks on this host.
func checkVirtiofs(image guest.Image) error {
	if _, err := vm.FindVirtiofsd(); err != nil {
		return err
	}
	if !hasModule(image, "virtiofs") {
		return errNoVirtiofs
	}
	return nil
}

func hasModule(image guest.Image, name string) bool {
	return slices.ContainsFunc(image.Modules, func(file string) bool { return strings.HasPrefix(filepath.Base(file), name+".ko") })
}

// checkTransport is about what virtiofs needs, which matters where it is chosen.
func (r Runtime) checkTransport(image guest.Image) Finding {
	const name = "virtiofs"
	program, err := vm.FindVirtiofsd()
	if err == nil {
		err = checkVirtiofs(image)
	}
	switch {
	case r.Config.Transport != vm.Virtiofs && err != nil:
		return Finding{Level: OK, Name: name, Text: "not used, the transport is 9p"}
	case r.Config.Transport != vm.Virtiofs:
		return Finding{Level: OK, Name: name, Text: "not used, the transport is 9p; " + program + " is there"}
	case err != nil:
		text, remedy, _ := strings.Cut(err.Error(), ": ")
		return Finding{Missing, name, text, remedy}
	}
	if wrapper := checkExecutable(name, r.Config.Virtiofsd); wrapper.Level != OK {
		return wrapper
	}
	return Finding{Level: OK, Name: name, Text: program}
}
