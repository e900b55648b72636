package runtime

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestRootfsOnDisks(t *testing.T) {
	for name, test := range map[string]struct {
		way         string
		annotations map[string]string
		block       bool
		size        int64
		wrong       string
	}{
		"share":           {rootfsShare, nil, false, 10 << 30, ""},
		"block":           {rootfsBlock, nil, true, 10 << 30, ""},
		"one on disks":    {rootfsShare, map[string]string{rootfsAnnotation: "block", rootfsSizeAnnotation: "64M"}, true, 64 << 20, ""},
		"one shared":      {rootfsBlock, map[string]string{rootfsAnnotation: "share"}, false, 10 << 30, ""},
		"another way":     {rootfsShare, map[string]string{rootfsAnnotation: "disk"}, false, 0, `org.vmruntime.rootfs must be "share" or "block", not "disk"`},
		"no size":         {rootfsShare, map[string]string{rootfsSizeAnnotation: "large"}, false, 0, `org.vmruntime.rootfs.size: "large" is not a number of bytes`},
		"too small":       {rootfsShare, map[string]string{rootfsSizeAnnotation: "1M"}, false, 0, "between 16MiB and 16TiB"},
		"empty and wrong": {rootfsShare, map[string]string{rootfsAnnotation: ""}, false, 0, `not ""`},
	} {
		b := Bundle{Spec: &specs.Spec{Annotations: test.annotations}}
		block, size, err := b.rootfsOnDisks(Config{Rootfs: test.way, RootfsSize: "10GiB"})
		switch {
		case test.wrong != "":
			if err == nil || !strings.Contains(err.Error(), test.wrong) {
				t.Errorf("%s: error is %v", name, err)
			}
		case err != nil || block != test.block || size != test.size:
			t.Errorf("%s: %v, %d, %v", name, block, size, err)
		}
	}
}
