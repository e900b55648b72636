package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/vmruntime/vmruntime/network"
)

// foreignFile is where the network namespace that the container has joined is
// described below the shim's directory.
func foreignFile(dir string) string { return filepath.Join(dir, "netns.json") }

// occupyNetns makes the network namespace that the shim has been born in this VM's as
// long as the shim lives, and notes how it is unless it is the container's own.
func occupyNetns(plan Plan) error {
	if _, err := network.Occupy(); err != nil {
		return netnsError(plan, err)
	}
	if plan.Netns == "" {
		return nil
	}
	foreign, err := network.Inspect(plan.Netns, plan.Machine.Taps)
	if err != nil {
		return netnsError(plan, err)
	}
	text, err := json.Marshal(foreign)
	if err != nil {
		return err
	}
	return os.WriteFile(foreignFile(plan.Dir), text, 0o600)
}

func netnsError(plan Plan, err error) error {
	if errors.Is(err, network.ErrOccupied) {
		return fmt.Errorf("linux.namespaces: %s is the network of another VM, and several containers in one VM are not supported yet: remove --network container:ID or --pod", plan.Netns)
	}
	return fmt.Errorf("network namespace %s: %w", plan.Netns, err)
}

// leaveForeign gives the namespace back as it was. Nothing runs in it any more.
func leaveForeign(dir string) error {
	text, err := os.ReadFile(foreignFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var foreign network.Foreign
	if json.Unmarshal(text, &foreign) != nil {
		// The shim ended while it wrote this, and had changed nothing yet.
		return nil
	}
	return foreign.Release()
}
