package nullserver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/nexuscore-labs/nexus/frame"
)

// responder appends the answers to all whole requests of src and returns how
// many bytes it took.
type responder func(out, src []byte) ([]byte, int, error)

func responderOf(protocol string) (responder, error) {
	switch protocol {
	case "frame":
		return answerFrames, nil
	case "http1":
		return answerHTTP, nil
	case "resp":
		return answerRESP, nil
	}
	return nil, fmt.Errorf("null server: unknown protocol %q", protocol)
}

// answerFrames echoes pings and acknowledges anything else with its id.
func answerFrames(out, src []byte) ([]byte, int, error) {
	taken := 0
	var sequence [8]byte
	for {
		f, n, err := frame.Parse(src[taken:])
		if err != nil || n == 0 {
			return out, taken, err
		}
		body := f.Body
		if f.Kind != frame.KindPing {
			binary.LittleEndian.PutUint64(sequence[:], f.ID)
			body = sequence[:]
		}
		out = frame.Append(out, frame.Frame{Kind: f.Kind | frame.KindReply, Tenant: f.Tenant, ID: f.ID, Body: body})
		taken += n
	}
}

var (
	httpAnswer = []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	headEnd    = []byte("\r\n\r\n")
)

// answerHTTP answers requests without a body; one with a body is refused,
// since skipping it needs a parser that this server doesn't have.
func answerHTTP(out, src []byte) ([]byte, int, error) {
	taken := 0
	for {
		n := bytes.Index(src[taken:], headEnd)
		if n < 0 {
			return out, taken, nil
		}
		if src[taken] != 'G' {
			return out, taken, fmt.Errorf("null server: HTTP request %.20q isn't a GET", src[taken:])
		}
		out = append(out, httpAnswer...)
		taken += n + len(headEnd)
	}
}

var errCommand = errors.New("null server: malformed RESP command")

// answerRESP answers every command with OK.
func answerRESP(out, src []byte) ([]byte, int, error) {
	taken := 0
	for {
		n, err := command(src[taken:])
		if err != nil || n == 0 {
			return out, taken, err
		}
		out = append(out, "+OK\r\n"...)
		taken += n
	}
}

// command returns the length of an array of bulk strings, 0 for a part of one.
func command(src []byte) (int, error) {
	args, at, err := respNumber(src, 0, '*')
	if err != nil || at == 0 {
		return 0, err
	}
	for range args {
		length, next, err := respNumber(src, at, '$')
		if err != nil || next == 0 {
			return 0, err
		}
		at = next + length + 2
		if at > len(src) {
			return 0, nil
		}
	}
	return at, nil
}

// respNumber reads a mark, digits and the line's end at the offset.
func respNumber(src []byte, at int, mark byte) (value, next int, err error) {
	if at >= len(src) {
		return 0, 0, nil
	}
	if src[at] != mark {
		return 0, 0, errCommand
	}
	for i := at + 1; i < len(src); i++ {
		switch c := src[i]; {
		case c >= '0' && c <= '9' && value < 1<<24:
			value = value*10 + int(c-'0')
		case c == '\r':
			if i+1 >= len(src) {
				return 0, 0, nil
			}
			return value, i + 2, nil
		default:
			return 0, 0, errCommand
		}
	}
	return 0, 0, nil
}
