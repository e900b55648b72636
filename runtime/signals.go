package runtime

import (
	"os"
	"os/signal"
)

// Signals are those that this process takes for one of a container's.
type Signals struct {
	received chan os.Signal
	// caught is closed when all of them are caught.
	caught chan struct{}
}

// CatchSignals catches every signal for the rest of this process's life. Go takes
// two turns between threads for each, 2 to 4 ms together: the caller has something
// else to do meanwhile.
func CatchSignals() Signals {
	s := Signals{make(chan os.Signal, 2048), make(chan struct{})}
	go func() {
		signal.Notify(s.received)
		close(s.caught)
	}()
	return s
}
