package scriptserver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/nexuscore-labs/nexus/frame"
)

// IDLen is the length of an id's text in HTTP and RESP: hexadecimal digits.
const IDLen = 16

// request is what the server keeps of one.
type request struct {
	id     uint64 // stated by the client, see protocol
	wireID uint64 // of the frame
}

// protocol reads requests that carry an id and writes answers that repeat it.
//
//	frame  a ping whose body is the id, 8 bytes little endian; the answer echoes it
//	http1  GET /<16 hexadecimal digits>; the answer's body is the digits
//	resp   GET <16 hexadecimal digits>; the answer is a bulk string of the digits
type protocol struct {
	ordered bool // answers keep the order of the requests
	parse   func(src []byte) (request, int, error)
	answer  func(dst []byte, r request) []byte
}

var protocols = map[string]protocol{
	"frame": {false, parseFrame, answerFrame},
	"http1": {true, parseHTTP, answerHTTP},
	"resp":  {true, parseRESP, answerRESP},
}

// errRequest marks what this server doesn't understand.
var errRequest = errors.New("script server: unexpected request")

func parseFrame(src []byte) (request, int, error) {
	f, n, err := frame.Parse(src)
	if err != nil || n == 0 {
		return request{}, 0, err
	}
	if f.Kind != frame.KindPing || len(f.Body) != 8 {
		return request{}, 0, fmt.Errorf("%w: frame of kind %d with %d bytes", errRequest, f.Kind, len(f.Body))
	}
	return request{id: binary.LittleEndian.Uint64(f.Body), wireID: f.ID}, n, nil
}

func answerFrame(dst []byte, r request) []byte {
	var body [8]byte
	binary.LittleEndian.PutUint64(body[:], r.id)
	return frame.Append(dst, frame.Frame{Kind: frame.KindPing | frame.KindReply, ID: r.wireID, Body: body[:]})
}

func parseHTTP(src []byte) (request, int, error) {
	end := bytes.Index(src, []byte("\r\n\r\n"))
	if end < 0 {
		return request{}, 0, nil
	}
	const prefix = "GET /"
	if end < len(prefix)+IDLen || string(src[:len(prefix)]) != prefix {
		return request{}, 0, fmt.Errorf("%w: %.40q", errRequest, src)
	}
	id, err := parseID(src[len(prefix) : len(prefix)+IDLen])
	return request{id: id}, end + 4, err
}

func answerHTTP(dst []byte, r request) []byte {
	dst = append(dst, "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n"...)
	return AppendID(dst, r.id)
}

func parseRESP(src []byte) (request, int, error) {
	const prefix = "*2\r\n$3\r\nGET\r\n$16\r\n"
	n := min(len(src), len(prefix))
	if string(src[:n]) != prefix[:n] {
		return request{}, 0, fmt.Errorf("%w: %.40q", errRequest, src)
	}
	const whole = len(prefix) + IDLen + 2
	if len(src) < whole {
		return request{}, 0, nil
	}
	id, err := parseID(src[len(prefix) : len(prefix)+IDLen])
	return request{id: id}, whole, err
}

func answerRESP(dst []byte, r request) []byte {
	dst = append(dst, "$16\r\n"...)
	dst = AppendID(dst, r.id)
	return append(dst, "\r\n"...)
}

// AppendID appends the text of an id.
func AppendID(dst []byte, id uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, digits[id>>shift&15])
	}
	return dst
}

func parseID(text []byte) (uint64, error) {
	id, err := strconv.ParseUint(string(text), 16, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: id %.40q", errRequest, text)
	}
	return id, nil
}
