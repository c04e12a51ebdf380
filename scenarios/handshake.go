package scenarios

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
)

// handshakeFD is the descriptor on which a child finds the pipe to its runner:
// the first of exec.Cmd's ExtraFiles.
const handshakeFD = 3

// messageBytesMax bounds one line of the handshake.
const messageBytesMax = 1 << 20

// message is one line of JSON from a child to its runner: first Ready, at the
// end Done or Failed.
type message struct {
	Ready  *readyMessage  `json:"ready,omitempty"`
	Done   *doneMessage   `json:"done,omitempty"`
	Failed *failedMessage `json:"failed,omitempty"`
}

type readyMessage struct {
	Address string `json:"address"`
}

type doneMessage struct {
	Stats map[string]float64 `json:"stats"`
}

type failedMessage struct {
	Error string `json:"error"`
	// Environment says that the machine and not the contender is to blame: an
	// occupied port, a missing permission.
	Environment bool `json:"environment"`
}

// readMessages calls got for every line until the pipe closes. A line that is
// no message ends it with an error.
func readMessages(r io.Reader, got func(message)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), messageBytesMax)
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return fmt.Errorf("handshake line %.80q: %w", lines.Text(), err)
		}
		got(m)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the handshake: %w", err)
	}
	return nil
}

// reporter is the child's end of the handshake.
type reporter struct {
	mu    sync.Mutex
	pipe  *os.File
	ready bool
	stats map[string]float64
}

func (r *reporter) send(m message) error {
	line, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode a handshake message: %w", err)
	}
	if _, err := r.pipe.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write to the runner: %w", err)
	}
	return nil
}

// Ready is ServeEnv.Ready.
func (r *reporter) Ready(address string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ready {
		return fmt.Errorf("contender said twice that it is ready, now at %s", address)
	}
	r.ready = true
	return r.send(message{Ready: &readyMessage{Address: address}})
}

// Stat is ServeEnv.Stat. What is not a finite number is left out: absent is
// not zero, and JSON has no NaN.
func (r *reporter) Stat(name string, value float64) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats[name] = value
}

// finish tells how Serve ended.
func (r *reporter) finish(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		return r.send(message{Failed: &failedMessage{Error: err.Error(), Environment: blamesMachine(err)}})
	}
	return r.send(message{Done: &doneMessage{Stats: r.stats}})
}
