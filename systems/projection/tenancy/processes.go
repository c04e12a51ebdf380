package tenancy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	fold "github.com/nexuscore-labs/nexus/components/projection"
)

// processes is a Fleet of a process for each tenant, which is asked and answers
// over pipes.
type processes struct {
	tenants []process
	event   []byte
	buf     []byte
}

type process struct {
	command *exec.Cmd
	ask     io.WriteCloser
	answer  io.Reader
}

// NewProcesses starts a process for each of so many tenants. self is the command
// and the arguments with which this program calls ChildMain.
func NewProcesses(tenants int, self []string) (Fleet, error) {
	if len(self) == 0 {
		return nil, errors.New("tenancy: no command for the tenants' processes")
	}
	p := &processes{}
	for range tenants {
		started, err := startProcess(self)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("start process of tenant %d: %w", len(p.tenants), err), p.Close())
		}
		p.tenants = append(p.tenants, started)
	}
	return p, nil
}

func startProcess(self []string) (p process, err error) {
	p.command = exec.Command(self[0], self[1:]...)
	p.command.Stderr = os.Stderr
	// One tenant needs one thread at a time, and little memory.
	p.command.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=20")
	if p.ask, err = p.command.StdinPipe(); err != nil {
		return p, err
	}
	if p.answer, err = p.command.StdoutPipe(); err != nil {
		return p, err
	}
	return p, p.command.Start()
}

// Ask implements Fleet.
func (p *processes) Ask(tenant int, event fold.Event) ([]byte, error) {
	t := &p.tenants[tenant]
	p.event = fold.AppendEvent(p.event[:0], event)
	if _, err := t.ask.Write(p.event); err != nil {
		return nil, fmt.Errorf("ask process of tenant %d: %w", tenant, err)
	}
	var header [4]byte
	if _, err := io.ReadFull(t.answer, header[:]); err != nil {
		return nil, fmt.Errorf("hear process of tenant %d: %w", tenant, err)
	}
	n := binary.LittleEndian.Uint32(header[:])
	if n > fold.EncodedLenMax {
		return nil, fmt.Errorf("process of tenant %d answers with %d bytes", tenant, n)
	}
	if cap(p.buf) < int(n) {
		p.buf = make([]byte, fold.EncodedLenMax)
	}
	p.buf = p.buf[:n]
	_, err := io.ReadFull(t.answer, p.buf)
	return p.buf, err
}

// PIDs implements Fleet.
func (p *processes) PIDs() (pids []int) {
	for _, t := range p.tenants {
		pids = append(pids, t.command.Process.Pid)
	}
	return pids
}

// Close implements Fleet: a tenant ends when nobody can ask it any more.
func (p *processes) Close() (err error) {
	for _, t := range p.tenants {
		err = errors.Join(err, t.ask.Close())
	}
	for _, t := range p.tenants {
		err = errors.Join(err, t.command.Wait())
	}
	return err
}

// ChildMain is a tenant's process: it reads events from the standard input until it
// ends and writes each answer, its length first. It returns the exit code.
func ChildMain() int {
	if err := serveTenant(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "tenant's process:", err)
		return 1
	}
	return 0
}

func serveTenant(in io.Reader, out io.Writer) error {
	var state fold.Native
	event, buf := make([]byte, fold.EventLen), make([]byte, 0, 4+fold.EncodedLenMax)
	for {
		if _, err := io.ReadFull(in, event); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read event: %w", err)
		}
		answer, err := foldAndEncode(&state, event, buf[:4])
		if err != nil {
			return err
		}
		binary.LittleEndian.PutUint32(answer, uint32(len(answer)-4))
		if _, err := out.Write(answer); err != nil {
			return fmt.Errorf("write answer: %w", err)
		}
	}
}
