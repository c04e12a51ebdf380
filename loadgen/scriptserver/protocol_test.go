package scriptserver

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/frame"
)

const testID = 0x0123456789abcdef

func requestOf(name string) []byte {
	text := AppendID(nil, testID)
	switch name {
	case "http1":
		return append(append([]byte("GET /"), text...), " HTTP/1.1\r\nHost: h\r\n\r\n"...)
	case "resp":
		return append(append([]byte("*2\r\n$3\r\nGET\r\n$16\r\n"), text...), "\r\n"...)
	}
	return frame.Append(nil, frame.Frame{Kind: frame.KindPing, ID: 9, Body: binary.LittleEndian.AppendUint64(nil, testID)})
}

// Any part of a request asks for more, a whole one gives its id, and the answer
// repeats it.
func TestProtocolsAreIncremental(t *testing.T) {
	for name, p := range protocols {
		whole := requestOf(name)
		for cut := range whole {
			if r, n, err := p.parse(whole[:cut]); n != 0 || err != nil {
				t.Fatalf("%s cut at %d: %+v, %d, %v", name, cut, r, n, err)
			}
		}
		r, n, err := p.parse(append(bytes.Clone(whole), 'x'))
		if err != nil || n != len(whole) || r.id != testID {
			t.Fatalf("%s: %+v, %d of %d, %v", name, r, n, len(whole), err)
		}
		want := AppendID(nil, testID)
		if name == "frame" {
			want = binary.LittleEndian.AppendUint64(nil, testID)
		}
		if answer := p.answer(nil, r); !bytes.Contains(answer, want) {
			t.Errorf("%s: the answer %q lacks the id", name, answer)
		}
	}
}

func TestBadRequests(t *testing.T) {
	for name, text := range map[string]string{
		"http1": "POST / HTTP/1.1\r\n\r\n", "resp": "*3\r\n$3\r\nSET\r\n", "frame": string(frame.Append(nil, frame.Frame{Kind: frame.KindAppend})),
	} {
		if _, n, err := protocols[name].parse([]byte(text)); err == nil || n != 0 {
			t.Errorf("%s: %q was accepted", name, text)
		}
	}
	for _, bad := range []Config{
		{Network: "udp", Address: "127.0.0.1:0", Protocol: "http1"}, {Network: "tcp", Address: "127.0.0.1:0", Protocol: "gopher"},
		{Network: "sctp", Address: "127.0.0.1:0", Protocol: "frame"}, {Network: "tcp", Address: "127.0.0.1:0", Protocol: "frame", LogMax: logMaxMax + 1},
		{Network: "tcp", Address: "127.0.0.1:0", Protocol: "frame", Script: Script{SlowShare: 2}}, {Network: "tcp", Address: "127.0.0.1:0", Protocol: "frame", Script: Script{Base: -1}},
	} {
		if s, err := Start(bad); err == nil {
			_, _ = s.Close()
			t.Errorf("%+v was accepted", bad)
		}
	}
}

func TestHeld(t *testing.T) {
	s := Script{Stall: time.Second}
	const begin = int64(5e9)
	for due, want := range map[int64]int64{1: 1, begin - 1: begin - 1, begin: 6e9, begin + 999_999_999: 6e9, 6e9: 6e9, 7e9: 7e9} {
		if got := s.Held(due, begin); got != want {
			t.Errorf("due at %d, leaves at %d, want %d", due, got, want)
		}
	}
	if got := s.Held(begin, 0); got != begin {
		t.Errorf("held without a stall until %d", got)
	}
}

// Whatever arrives, a parser takes no more than there is.
func FuzzProtocols(f *testing.F) {
	for name := range protocols {
		f.Add(requestOf(name))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		for name, p := range protocols {
			if _, n, err := p.parse(src); n < 0 || n > len(src) || err != nil && n != 0 && name == "frame" {
				t.Fatalf("%s: %d of %d bytes, %v", name, n, len(src), err)
			}
		}
	})
}
