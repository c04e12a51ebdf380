package graphserver

import (
	"encoding/binary"
	"net"

	"golang.org/x/net/ipv4"

	"github.com/nexuscore-labs/nexus/bpf/datagram"
)

// replies send answers from the socket that receives what the driver passes.
type replies struct {
	conn  *ipv4.PacketConn
	out   []ipv4.Message
	count int
}

func newReplies(packets net.PacketConn) *replies {
	r := &replies{conn: ipv4.NewPacketConn(packets)}
	for range driverBatch {
		r.out = append(r.out, ipv4.Message{Buffers: [][]byte{make([]byte, 0, answerLen)}, Addr: &net.UDPAddr{IP: make(net.IP, 4)}})
	}
	return r
}

// add answers the sender of d.
func (r *replies) add(d datagram.Datagram, answer func(dst []byte) []byte) {
	m := &r.out[r.count]
	r.count++
	m.Buffers[0] = answer(m.Buffers[0][:0])
	to := m.Addr.(*net.UDPAddr)
	to.Port = int(binary.BigEndian.Uint16(d.UDP))
	to.IP = append(to.IP[:0], d.IP[12:16]...)
	if len(d.IP) != ipv4HeaderLen {
		to.IP = append(to.IP[:0], d.IP[8:24]...)
	}
}

const ipv4HeaderLen = 20

// flush sends the answers.
func (r *replies) flush(stats *Stats) {
	for sent := 0; sent < r.count; {
		n, err := r.conn.WriteBatch(r.out[sent:r.count], 0)
		if err != nil {
			stats.SendErrors.Add(1)
			n = max(n, 1)
		}
		sent += n
	}
	r.count = 0
}
