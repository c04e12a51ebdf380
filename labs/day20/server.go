package day20

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/nexuscore-labs/nexus/frame"
)

// inFlightMax bounds the changes of one connection that are not answered yet;
// more wait in the socket.
const inFlightMax = 4096

// handler carries out a change and returns when the vector store shows it. write
// is called in the order of the writer's changes, the wait for it is not.
type handler func(ctx context.Context, c change) (wait func(ctx context.Context) error, err error)

// port serves changes over frames. A writer's changes are carried out one after
// the other, as they were sent, and answered when each is visible.
type port struct {
	handle handler
	mu     sync.Mutex
	queues map[uint32]chan request // by writer
	wg     sync.WaitGroup
}

type request struct {
	f     frame.Frame
	body  []byte
	reply func(frame.Frame)
}

// serve answers until ctx ends, then lets what is under way finish.
func serve(ctx context.Context, listener net.Listener, handle handler) error {
	p := &port{handle: handle, queues: map[uint32]chan request{}}
	ended := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer ended()
	for {
		conn, err := listener.Accept()
		if err != nil {
			p.wg.Wait()
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("accept a connection: %w", err)
		}
		p.wg.Go(func() { p.connection(ctx, conn) })
	}
}

func (p *port) connection(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { closeRead(conn) })
	defer stop()
	defer conn.Close()
	var write sync.Mutex
	var answers sync.WaitGroup
	defer answers.Wait()
	slots := make(chan struct{}, inFlightMax)
	reply := func(f frame.Frame) {
		write.Lock()
		_, _ = conn.Write(frame.Append(nil, f)) // a client that is gone needs no answer
		write.Unlock()
		<-slots
		answers.Done()
	}
	for in := bufio.NewReaderSize(conn, 64<<10); ; {
		f, err := readFrame(in)
		if err != nil {
			return
		}
		slots <- struct{}{}
		answers.Add(1)
		p.queue(ctx, f.Tenant) <- request{f, f.Body, reply}
	}
}

func closeRead(conn net.Conn) {
	if half, ok := conn.(interface{ CloseRead() error }); ok {
		_ = half.CloseRead()
		return
	}
	_ = conn.Close()
}

func readFrame(in *bufio.Reader) (frame.Frame, error) {
	head, err := in.Peek(4)
	if err != nil {
		return frame.Frame{}, err
	}
	whole := make([]byte, 4+min(uint64(binary.LittleEndian.Uint32(head)), frame.BodyLenMax+frame.HeaderLen))
	if _, err := io.ReadFull(in, whole); err != nil {
		return frame.Frame{}, err
	}
	f, _, err := frame.Parse(whole)
	return f, err
}

// queue returns the writer's queue, and starts who works it off.
func (p *port) queue(ctx context.Context, writer uint32) chan request {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.queues[writer]
	if q == nil {
		q = make(chan request, inFlightMax)
		p.queues[writer] = q
		go func() { // ends with the process
			for r := range q {
				p.carryOut(context.WithoutCancel(ctx), r)
			}
		}()
	}
	return q
}

func (p *port) carryOut(ctx context.Context, r request) {
	answer := frame.Frame{Kind: r.f.Kind | frame.KindReply, Tenant: r.f.Tenant, ID: r.f.ID}
	c, err := parseChange(r.body)
	if err != nil || r.f.Kind != frame.KindAppend {
		answer.Status = frame.StatusMalformed
		r.reply(answer)
		return
	}
	wait, err := p.handle(ctx, c)
	if err != nil {
		answer.Status = frame.StatusUnavailable
		r.reply(answer)
		return
	}
	p.wg.Go(func() {
		if err := wait(ctx); err != nil {
			answer.Status = frame.StatusUnavailable
		} else {
			answer.Body = binary.LittleEndian.AppendUint64(nil, c.n)
		}
		r.reply(answer)
	})
}
