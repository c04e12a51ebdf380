package recordserver

import (
	"net"
	"sync"
	"time"

	"github.com/nexuscore-labs/nexus/frame"
)

// answerBacklogMax is how many bytes of answers may wait for the socket before
// those who make more of them wait too.
const answerBacklogMax = 1 << 20

// answerWriter gathers answers while the last write is under way and sends them
// together: under load one system call carries many answers, and a lone answer
// leaves at once.
type answerWriter struct {
	server *server
	socket net.Conn
	done   chan struct{}

	mu       sync.Mutex
	changed  sync.Cond // signalled to the writer
	drained  sync.Cond // broadcast to those who wait for room
	pending  []byte
	finished bool // no more answers come
	broken   bool // the socket failed: answers are dropped
}

func newAnswerWriter(s *server, socket net.Conn) *answerWriter {
	w := &answerWriter{server: s, socket: socket, done: make(chan struct{})}
	w.changed.L = &w.mu
	w.drained.L = &w.mu
	return w
}

// answer queues f. Any goroutine may call it; it waits while too much is queued.
func (w *answerWriter) answer(f frame.Frame) {
	if int(f.Status) < statusCount {
		w.server.stats.Answers[f.Status].Add(1)
	}
	w.mu.Lock()
	for len(w.pending) > answerBacklogMax && !w.broken {
		w.drained.Wait()
	}
	if w.broken {
		w.mu.Unlock()
		return
	}
	wasEmpty := len(w.pending) == 0
	w.pending = frame.Append(w.pending, f)
	w.mu.Unlock()
	if wasEmpty {
		w.changed.Signal()
	}
}

// finish sends what is queued and ends run.
func (w *answerWriter) finish() {
	w.mu.Lock()
	w.finished = true
	w.mu.Unlock()
	w.changed.Signal()
	<-w.done
}

func (w *answerWriter) run() {
	defer close(w.done)
	var sending []byte
	for {
		w.mu.Lock()
		for len(w.pending) == 0 && !w.finished {
			w.changed.Wait()
		}
		if len(w.pending) == 0 {
			w.mu.Unlock()
			return
		}
		sending, w.pending = w.pending, sending[:0]
		w.mu.Unlock()
		w.drained.Broadcast()
		if !w.send(sending) {
			return
		}
		if cap(sending) > answerBacklogMax {
			sending = nil
		}
	}
}

// send writes one batch. When the client can't be written to, the connection
// ends: its reader stops and further answers are dropped.
func (w *answerWriter) send(batch []byte) bool {
	w.server.stats.Writes.Add(1)
	w.socket.SetWriteDeadline(time.Now().Add(w.server.opts.WriteTimeout))
	_, err := w.socket.Write(batch)
	if err == nil {
		return true
	}
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		w.server.stats.ClientsStuck.Add(1)
	}
	w.socket.Close()
	w.mu.Lock()
	w.broken = true
	w.pending = nil
	w.mu.Unlock()
	w.drained.Broadcast()
	return false
}
