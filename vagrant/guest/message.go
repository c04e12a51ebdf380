// Package guest is this binary's other life: the first process of a virtual
// machine, which mounts, loads modules, runs what the request says and sends
// everything to the host over a virtio port.
package guest

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Places inside the machine, known to both sides.
const (
	InitCommand = "vm-init"             // the command of this binary that the kernel starts
	RunCommand  = "vm-guest"            // the command that InitCommand starts
	BinaryPath  = "/bin/nexus"          // this binary
	BusyboxPath = "/bin/busybox"        // a shell for people
	RequestPath = "/nexus/request.json" // a Request
	DataDir     = "/data"               // the disk, if there is one
	TempDir     = DataDir + "/tmp"
	PortName    = "nexus" // of the virtio port
)

// Request is what the machine is to do. Commands run one after the other.
type Request struct {
	Modules  []string  `json:"modules"` // paths of kernel modules, in the order of loading
	Disk     bool      `json:"disk"`    // mount the first disk (ext4) on DataDir
	Commands []Command `json:"commands"`
	Collect  string    `json:"collect,omitempty"` // folder that is sent back at the end
	Shell    bool      `json:"shell,omitempty"`   // give the console to a person instead
}

// Command is one program to run.
type Command struct {
	Name      string   `json:"name"`
	Args      []string `json:"args"` // with the program's path
	Env       []string `json:"env,omitempty"`
	Dir       string   `json:"dir,omitempty"`
	TimeoutMs int64    `json:"timeout_ms"`
}

// Kind says what a message holds.
type Kind uint8

const (
	KindHello  Kind = iota + 1 // Hello
	KindStart                  // Start
	KindStdout                 // bytes of the running command
	KindStderr                 // likewise
	KindExit                   // Exit
	KindFiles                  // bytes of a tar stream of Request.Collect
	KindDone                   // Done; the last message
	KindError                  // text: the machine could not do as asked
)

// Hello is sent when the machine is up.
type Hello struct {
	Release  string `json:"release"`
	UptimeMs int64  `json:"uptime_ms"` // by the guest's clock
}

// Start says which command begins.
type Start struct {
	Index int `json:"index"`
}

// Exit says how a command ended. Code is -1 if a signal ended it.
type Exit struct {
	Index    int    `json:"index"`
	Code     int    `json:"code"`
	Signal   string `json:"signal,omitempty"`
	TimedOut bool   `json:"timed_out,omitempty"`
	OOMKills int    `json:"oom_kills"` // processes that the kernel killed for memory meanwhile
	TookMs   int64  `json:"took_ms"`   // by the guest's clock
}

// Done ends the conversation.
type Done struct {
	OOMKills int `json:"oom_kills"`
}

// Message is one frame: a kind, a little-endian length of 4 bytes, a body.
type Message struct {
	Kind Kind
	Body []byte
}

// BodyLenMax bounds a message.
const BodyLenMax = 256 << 10

const headerLen = 5

// Writer sends messages. It is safe for concurrent use.
type Writer struct {
	mu sync.Mutex
	to io.Writer
}

// NewWriter returns a Writer on an open port.
func NewWriter(to io.Writer) *Writer { return &Writer{to: to} }

// Send writes one message, in one call, so that a machine that is killed in
// between leaves at most one broken message at the end.
func (w *Writer) Send(kind Kind, body []byte) error {
	if len(body) > BodyLenMax {
		return fmt.Errorf("send a message of %d bytes: at most %d", len(body), BodyLenMax)
	}
	frame := make([]byte, headerLen, headerLen+len(body))
	frame[0] = byte(kind)
	binary.LittleEndian.PutUint32(frame[1:], uint32(len(body)))
	frame = append(frame, body...)
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.to.Write(frame); err != nil {
		return fmt.Errorf("send a message: %w", err)
	}
	return nil
}

// SendJSON sends v as the body.
func (w *Writer) SendJSON(kind Kind, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	return w.Send(kind, body)
}

// Stream returns a writer whose bytes go out as messages of one kind.
func (w *Writer) Stream(kind Kind) io.Writer { return stream{w, kind} }

type stream struct {
	to   *Writer
	kind Kind
}

func (s stream) Write(p []byte) (int, error) {
	sent := 0
	for len(p) > 0 {
		part := p[:min(len(p), BodyLenMax)]
		if err := s.to.Send(s.kind, part); err != nil {
			return sent, err
		}
		sent += len(part)
		p = p[len(part):]
	}
	return sent, nil
}

// ErrBroken says that what came over the port is no message.
var ErrBroken = errors.New("the machine sent no valid message")

// Read returns the next message; io.EOF or io.ErrUnexpectedEOF when the machine
// is gone.
func Read(from io.Reader) (Message, error) {
	var header [headerLen]byte
	if _, err := io.ReadFull(from, header[:]); err != nil {
		return Message{}, err
	}
	kind, length := Kind(header[0]), binary.LittleEndian.Uint32(header[1:])
	if kind < KindHello || kind > KindError || length > BodyLenMax {
		return Message{}, fmt.Errorf("%w: kind %d, %d bytes", ErrBroken, kind, length)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(from, body); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Message{}, err
	}
	return Message{Kind: kind, Body: body}, nil
}
