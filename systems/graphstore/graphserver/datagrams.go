package graphserver

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/net/ipv4"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/frame"
)

const (
	datagramBatch  = 64       // datagrams that one system call receives, or sends
	datagramLenMax = 2 << 10  // of a request
	socketBuffer   = 4 << 20  // the kernel caps it at net.core.rmem_max
	answerLenMax   = 65_507   // what a datagram over IPv4 holds
	answerLen      = 16 << 10 // room that an answer has at first
)

// datagrams is a UDP socket and its batch.
type datagrams struct {
	server  *server
	conn    *ipv4.PacketConn
	in, out []ipv4.Message
}

// serveDatagrams calls ready when the socket is there.
func (s *server) serveDatagrams(ctx context.Context, ready func(net.PacketConn) error) error {
	packets, err := net.ListenPacket("udp", s.opts.Address)
	if err != nil {
		return fmt.Errorf("listen on udp %s: %w", s.opts.Address, err)
	}
	defer packets.Close()
	stop := context.AfterFunc(ctx, func() { packets.Close() })
	defer stop()
	if udp, ok := packets.(*net.UDPConn); ok {
		// Bursts wait in the socket; less room is only a matter of loss.
		_ = errors.Join(udp.SetReadBuffer(socketBuffer), udp.SetWriteBuffer(socketBuffer))
	}
	if err := ready(packets); err != nil {
		return err
	}
	d := datagrams{server: s, conn: ipv4.NewPacketConn(packets)}
	for range datagramBatch {
		d.in = append(d.in, ipv4.Message{Buffers: [][]byte{make([]byte, datagramLenMax)}})
		d.out = append(d.out, ipv4.Message{Buffers: [][]byte{make([]byte, 0, answerLen)}})
	}
	for {
		n, err := d.conn.ReadBatch(d.in, 0)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && unusable(err):
			return fmt.Errorf("receive datagrams: %w", err)
		case err != nil:
			continue // an error of an earlier send, such as ECONNREFUSED
		}
		d.turn(n)
	}
}

// turn answers n datagrams.
func (d *datagrams) turn(n int) {
	answers := 0
	for i := range n {
		in := &d.in[i]
		f, err := frame.ParseDatagram(in.Buffers[0][:in.N])
		if err != nil {
			d.server.stats.Malformed.Add(1)
			continue
		}
		if d.server.opts.PerRequest {
			d.spawn(f, in.Addr)
			continue
		}
		out := &d.out[answers]
		out.Buffers[0] = d.server.answerDatagram(out.Buffers[0][:0], f)
		out.Addr = in.Addr
		answers++
	}
	for sent := 0; sent < answers; {
		n, err := d.conn.WriteBatch(d.out[sent:answers], 0)
		if err != nil {
			d.server.stats.SendErrors.Add(1)
			n = max(n, 1) // that one can't be sent
		}
		sent += n
	}
}

// answerDatagram is answer, for what fits a datagram: a longer chunk is refused.
func (s *server) answerDatagram(dst []byte, f frame.Frame) []byte {
	return s.answerWithin(dst, f, answerLenMax)
}

// answerWithin is answer, for what fits lenMax bytes: a longer chunk is refused.
func (s *server) answerWithin(dst []byte, f frame.Frame, lenMax int) []byte {
	q, err := graph.ParseQuery(f.Body)
	if f.Kind == frame.KindQuery && err == nil && int(q.ChunkLenMax) > lenMax-frame.HeaderLen-graph.ChunkHeaderLen || len(f.Body) > lenMax-frame.HeaderLen {
		s.stats.Refused.Add(1)
		return frame.Append(dst, frame.Frame{Kind: f.Kind | frame.KindReply, Status: frame.StatusTooLarge, Flags: f.Flags, Tenant: f.Tenant, ID: f.ID})
	}
	return s.answer(dst, f)
}

// spawn answers a request in a goroutine of its own.
func (d *datagrams) spawn(f frame.Frame, to net.Addr) {
	f.Body = append([]byte(nil), f.Body...)
	d.server.requests <- struct{}{}
	d.server.wg.Go(func() {
		answer := d.server.answerDatagram(nil, f)
		<-d.server.requests
		if _, err := d.conn.WriteTo(answer, nil, to); err != nil {
			d.server.stats.SendErrors.Add(1)
		}
	})
}
