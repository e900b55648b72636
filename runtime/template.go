package runtime

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/shim"
	"github.com/vmruntime/vmruntime/vm"
)

// The values of Config.Templates.
const (
	templatesAuto  = "auto"
	templatesBuilt = "built"
	templatesOff   = "off"
)

// templateOf is the directory of the machine's template, empty where templates
// are off.
func templateOf(machine vm.Config, c Config) (string, error) {
	if c.Templates == templatesOff || machine.Boot != nil {
		return "", nil
	}
	name, err := vm.TemplateName(machine)
	return filepath.Join(vm.Templates, name), err
}

// wanted logs how a machine started, which tests and operators look for, and
// tells what template would have served it better.
func (r Runtime) wanted(plan shim.Plan, start shim.Start) *shim.TemplatePlan {
	switch {
	case start.Cold == "":
		slog.Debug("warm start: a clone of template " + start.Template)
	case start.Fault:
		slog.Warn("cold start: " + start.Cold)
	default:
		slog.Debug("cold start: " + start.Cold)
	}
	if !start.Build || r.Config.Templates != templatesAuto {
		return nil
	}
	return &shim.TemplatePlan{Template: plan.Template, Machine: vm.Blank(plan.Machine)}
}

// buildWanted starts the building of a template in the background. Whatever
// becomes of it, the container runs.
func (r Runtime) buildWanted(plan *shim.TemplatePlan) {
	if plan == nil {
		return
	}
	if err := shim.SpawnTemplate(context.Background(), r.Shim, *plan); err != nil {
		slog.Warn("template is not built: " + err.Error())
	}
}

// BuildTemplate makes the template for containers with these resources, nil for
// those without limits, unless it is there. It returns the template's name and its
// machine, whose size is the nearest that there is.
func (r Runtime) BuildTemplate(ctx context.Context, resources *specs.LinuxResources) (string, vm.Config, error) {
	if r.Config.Transport == vm.Virtiofs {
		return "", vm.Config{}, errors.New("transport virtiofs has no templates: set transport to 9p")
	}
	host, err := r.host(ctx)
	if err != nil {
		return "", vm.Config{}, err
	}
	b := Bundle{Spec: &specs.Spec{Linux: &specs.Linux{Resources: resources}}}
	machine := vm.Blank(translateMachine("", "", b, r.Config, host))
	name, err := vm.TemplateName(machine)
	if err != nil {
		return "", vm.Config{}, err
	}
	plan := shim.TemplatePlan{Template: filepath.Join(vm.Templates, name), Machine: machine, Wait: true}
	return name, machine, shim.SpawnTemplate(ctx, r.Shim, plan)
}
