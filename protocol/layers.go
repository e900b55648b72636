package protocol

import (
	"fmt"
	"path"
)

// LayersDir is where the guest mounts what containers' roots are made of.
const LayersDir = "/run/vmruntime/layers"

// Layers are the volumes that a container's root is made of, by an overlay. A volume
// goes by the serial number of its disk, or by the name of its GPT partition.
type Layers struct {
	// Lower are read-only, each an erofs, the topmost first.
	Lower []string `json:"lower"`
	// Upper is an ext4 that takes what is written, from one start to the next. Without
	// it that is in the guest's memory, and ends with it.
	Upper string `json:"upper,omitempty"`
}

// LayeredRoot is where the guest mounts the root of a container that has layers.
func LayeredRoot(id string) string { return path.Join(LayersDir, id, "root") }

// LowerSerial is the serial number of the disk that is the i-th lower layer.
func LowerSerial(i int) string { return fmt.Sprintf("vmruntime-lower-%d", i) }

// UpperSerial is that of the upper.
func UpperSerial() string { return "vmruntime-upper" }
