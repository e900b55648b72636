// Package filelock takes the locks of directories that several processes work in.
package filelock

import (
	"context"
	"time"

	"github.com/gofrs/flock"
)

// Lock takes the lock of file, shared or alone, as flock(2) does, and makes the file
// where it is missing, mode 0600. While others have it, it is tried every poll until ctx ends.
func Lock(ctx context.Context, file string, shared bool, poll time.Duration) (unlock func(), err error) {
	l := flock.New(file, flock.SetPermissions(0o600))
	if shared {
		_, err = l.TryRLockContext(ctx, poll)
	} else {
		_, err = l.TryLockContext(ctx, poll)
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = l.Close() }, nil
}
