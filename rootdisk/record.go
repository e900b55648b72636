package rootdisk

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// An imageRecord tells when an image can go: when any of the directories that it was
// made of is gone.
type imageRecord struct {
	// Layers are of an engine's image, and other containers have them too.
	Layers []directory `json:"layers,omitempty"`
	// Private is the root file system's own, where there is something in it.
	Private *directory `json:"private,omitempty"`
}

// An upperRecord tells whose writes an upper has.
type upperRecord struct {
	Rootfs string    `json:"rootfs"`
	Origin directory `json:"origin"`
}

func (r imageRecord) gone() bool {
	for _, d := range r.Layers {
		if d.gone() {
			return true
		}
	}
	return r.Private != nil && r.Private.gone()
}

func (r upperRecord) gone() bool { return r.Origin.gone() }

// writeRecord writes the record of that name in one step.
func (s *Store) writeRecord(dir, name string, record any) error {
	text, err := json.Marshal(record)
	if err != nil {
		return err
	}
	fresh, err := os.CreateTemp(s.path(dir), ".record-")
	if err != nil {
		return fmt.Errorf("rootfs_store: %w", err)
	}
	_, err = fresh.Write(text)
	if err = errors.Join(err, fresh.Close()); err == nil {
		err = os.Rename(fresh.Name(), s.path(dir, name+recordSuffix))
	}
	if err != nil {
		return fmt.Errorf("rootfs_store: %w", errors.Join(err, os.Remove(fresh.Name())))
	}
	return nil
}

func readRecord[T any](file string) (record T, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return record, err
	}
	if err := json.Unmarshal(text, &record); err != nil {
		return record, fmt.Errorf("%s: %w", file, err)
	}
	return record, nil
}
