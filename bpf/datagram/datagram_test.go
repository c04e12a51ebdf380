package datagram

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

var (
	server4 = netip.MustParseAddr("10.77.0.1")
	client4 = netip.MustParseAddr("10.77.0.2")
	server6 = netip.MustParseAddr("fd77::1")
	client6 = netip.MustParseAddr("fd77::2")
	service = Service{Port: 7003, IPv4: server4, IPv6: server6}
)

// packet is put together byte by byte, without the package's own code.
func packet(v6 bool, tags int, payload []byte) []byte {
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	for range tags {
		b = append(b, 0x81, 0, 0, 7)
	}
	length := uint16(8 + len(payload))
	if v6 {
		b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, length)
		b = append(append(append(b, 17, 9), client6.AsSlice()...), server6.AsSlice()...)
	} else {
		b = append(b, 8, 0)
		at := len(b)
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, 20+length)
		b = append(append(append(b, 0, 1, 0x40, 0, 9, 17, 0, 0), client4.AsSlice()...), server4.AsSlice()...)
		binary.BigEndian.PutUint16(b[at+10:], ^slowSum(b[at:]))
	}
	b = binary.BigEndian.AppendUint16(b, 40000)
	b = binary.BigEndian.AppendUint16(b, service.Port)
	b = binary.BigEndian.AppendUint16(b, length)
	return append(append(b, 0, 0), payload...)
}

// slowSum is RFC 1071's sum in network order, word by word.
func slowSum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		word := uint32(b[i]) << 8
		if i+1 < len(b) {
			word |= uint32(b[i+1])
		}
		if sum += word; sum > 0xffff {
			sum = sum&0xffff + 1
		}
	}
	return uint16(sum)
}

// A reply goes where the request came from, with sums that check.
func TestReply(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for tags := range 3 {
			for n := range 70 {
				request := packet(v6, tags, bytes.Repeat([]byte{'q'}, n))
				d, refusal := Parse(request, service)
				if refusal != Taken || len(d.Payload) != n {
					t.Fatalf("refusal %d, payload of %d bytes, want %d", refusal, len(d.Payload), n)
				}
				out := make([]byte, ReplyLen(d, n+3))
				payload := out[len(out)-n-3:]
				for i := range payload {
					payload[i] = byte(i*7 + n)
				}
				want := bytes.Clone(payload)
				Reply(out, d)
				checkReply(t, out, v6, tags, want)
			}
		}
	}
}

func checkReply(t *testing.T, out []byte, v6 bool, tags int, payload []byte) {
	t.Helper()
	back := Service{Port: 40000, IPv4: client4, IPv6: client6}
	d, refusal := Parse(out, back)
	if refusal != Taken || !bytes.Equal(d.Payload, payload) || len(d.Link) != 14+4*tags || out[5] != 2 || out[11] != 1 {
		t.Fatalf("refusal %d, reply %x", refusal, out)
	}
	addresses := d.IP[12:20]
	if v6 {
		addresses = d.IP[8:40]
	}
	pseudo := append(bytes.Clone(addresses), 0, 17, 0, 0)
	binary.BigEndian.PutUint16(pseudo[len(pseudo)-2:], uint16(8+len(payload)))
	if sum := slowSum(append(append(pseudo, d.UDP...), d.Payload...)); sum != 0xffff {
		t.Fatalf("UDP sum %#x of reply %x", sum, out)
	}
}

// FuzzParse: whatever the bytes, they are refused or taken apart without a gap.
func FuzzParse(f *testing.F) {
	f.Add(packet(false, 1, []byte("query")))
	f.Add(packet(true, 0, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, refusal := Parse(b, service)
		if refusal == Taken && !bytes.HasPrefix(b, bytes.Join([][]byte{d.Link, d.IP, d.UDP, d.Payload}, nil)) {
			t.Fatalf("%x taken apart as %x", b, d)
		}
	})
}
