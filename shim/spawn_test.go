package shim

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A hook that does not end holds nobody up once the shim is gone: a delete
// --force waits for the create to give up.
func TestHookEndsWithShim(t *testing.T) {
	c, err := begin("sleep", exec.Command("sleep", "0.1"), Stdio{}, "")
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	_, err = c.ready(t.Context(), execPlan{}, func(ctx context.Context, _ int) error {
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Second):
		}
		return ctx.Err()
	})
	if err == nil || !strings.Contains(err.Error(), "before it was ready") {
		t.Errorf("error is %v", err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}
