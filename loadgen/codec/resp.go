package codec

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// Kinds of RESP requests.
const (
	RESPPing = 0
	RESPGet  = 1 // Key
	RESPSet  = 2 // Key, Body
	RESPDel  = 3 // Key
	RESPIncr = 4 // Key
	RESPRaw  = 5 // Body is a whole command, see AppendCommand
)

// Statuses of RESP answers beside 0.
const (
	RESPError = 1 // an error answer; Body is its text
	RESPNull  = 2 // there is no such value
)

const (
	respLineLenMax  = 64 << 10
	respDepthMax    = 16
	respElementsMax = 1 << 20
)

// ErrRESP is any answer that isn't RESP2 or RESP3.
var ErrRESP = errors.New("codec: malformed RESP answer")

// RESP is the Redis protocol. A response's Body is the text of a string,
// number or boolean, and the wire form of an aggregate. Attributes that
// precede an answer are dropped.
type RESP struct{}

// AppendCommand appends the wire form of a command with its arguments.
func AppendCommand(dst []byte, args ...[]byte) []byte {
	dst = appendNumber(dst, '*', len(args))
	for _, a := range args {
		dst = appendBulk(dst, a)
	}
	return dst
}

func appendNumber(dst []byte, mark byte, n int) []byte {
	dst = append(dst, mark)
	dst = strconv.AppendInt(dst, int64(n), 10)
	return append(dst, '\r', '\n')
}

func appendBulk(dst, s []byte) []byte {
	dst = appendNumber(dst, '$', len(s))
	dst = append(dst, s...)
	return append(dst, '\r', '\n')
}

// Append implements Codec.
func (RESP) Append(dst []byte, r *Request) ([]byte, error) {
	switch r.Kind {
	case RESPPing:
		return append(dst, "*1\r\n$4\r\nPING\r\n"...), nil
	case RESPGet:
		dst = append(dst, "*2\r\n$3\r\nGET\r\n"...)
	case RESPSet:
		dst = append(dst, "*3\r\n$3\r\nSET\r\n"...)
		return appendBulk(appendBulk(dst, r.Key), r.Body), nil
	case RESPDel:
		dst = append(dst, "*2\r\n$3\r\nDEL\r\n"...)
	case RESPIncr:
		dst = append(dst, "*2\r\n$4\r\nINCR\r\n"...)
	case RESPRaw:
		return append(dst, r.Body...), nil
	default:
		return dst, fmt.Errorf("codec: RESP request of unknown kind %d", r.Kind)
	}
	return appendBulk(dst, r.Key), nil
}

// Ordered implements Codec.
func (RESP) Ordered() bool { return true }

// Parse implements Codec.
func (RESP) Parse(src []byte) (Response, int, error) {
	skipped := 0
	for len(src) > skipped && src[skipped] == '|' {
		n, err := element(src[skipped:], 0)
		if err != nil || n == 0 {
			return Response{}, 0, err
		}
		skipped += n
	}
	src = src[skipped:]
	n, err := element(src, 0)
	if err != nil || n == 0 {
		return Response{}, 0, err
	}
	return respValue(src[:n:n]), skipped + n, nil
}

// respValue reads a whole, well-formed element.
func respValue(e []byte) Response {
	line, rest, _ := bytes.Cut(e[1:], []byte("\r\n"))
	switch e[0] {
	case '-':
		return Response{Status: RESPError, Body: line}
	case '_':
		return Response{Status: RESPNull}
	case '$', '!', '=':
		if line[0] == '-' {
			return Response{Status: RESPNull}
		}
		body := rest[: len(rest)-2 : len(rest)-2]
		if e[0] == '!' {
			return Response{Status: RESPError, Body: body}
		}
		if e[0] == '=' && len(body) >= 4 {
			body = body[4:] // txt: or mkd:
		}
		return Response{Body: body}
	case '*':
		if line[0] == '-' {
			return Response{Status: RESPNull}
		}
		return Response{Body: e}
	case '%', '~':
		return Response{Body: e}
	case '>':
		return Response{Push: true, Body: e}
	}
	return Response{Body: line}
}

// element returns the length of the first element of src, 0 for a part of one.
func element(src []byte, depth int) (int, error) {
	if depth > respDepthMax {
		return 0, fmt.Errorf("%w: nested deeper than %d", ErrRESP, respDepthMax)
	}
	if len(src) == 0 {
		return 0, nil
	}
	if bytes.IndexByte([]byte("+-:$*_#,(!=%~>|"), src[0]) < 0 {
		return 0, fmt.Errorf("%w: starts with %q", ErrRESP, src[0])
	}
	end := bytes.IndexByte(src, '\n')
	if end < 0 {
		if len(src) > respLineLenMax {
			return 0, fmt.Errorf("%w: a line exceeds %d bytes", ErrRESP, respLineLenMax)
		}
		return 0, nil
	}
	if end < 2 && src[0] != '_' || end == 0 || src[end-1] != '\r' {
		return 0, fmt.Errorf("%w: line %.40q", ErrRESP, src[:end])
	}
	line := src[1 : end-1]
	switch src[0] {
	case '$', '!', '=':
		return bulk(src, line, end+1)
	case '*', '%', '~', '>', '|':
		return aggregate(src, line, end+1, depth)
	}
	return end + 1, scalar(src[0], line)
}

func scalar(mark byte, line []byte) error {
	var ok bool
	switch mark {
	case ':':
		digits := bytes.TrimLeft(line, "+-")
		ok = len(line)-len(digits) <= 1 && len(digits) > 0 && len(digits) <= 19
		for _, c := range digits {
			ok = ok && c >= '0' && c <= '9'
		}
	case '_':
		ok = len(line) == 0
	case '#':
		ok = string(line) == "t" || string(line) == "f"
	default:
		ok = bytes.IndexByte(line, '\r') < 0
	}
	if !ok {
		return fmt.Errorf("%w: %c%.40q", ErrRESP, mark, line)
	}
	return nil
}

// bulk returns the length of a string whose first line ends before start.
func bulk(src, line []byte, start int) (int, error) {
	if src[0] == '$' && string(line) == "-1" {
		return start, nil
	}
	n, ok := decimal(line)
	if !ok {
		return 0, fmt.Errorf("%w: length %.40q", ErrRESP, line)
	}
	if n > AnswerLenMax {
		return 0, fmt.Errorf("%w: %d bytes", ErrTooLarge, n)
	}
	total := start + n + 2
	if len(src) < total {
		return 0, nil
	}
	if src[total-2] != '\r' || src[total-1] != '\n' {
		return 0, fmt.Errorf("%w: a string of %d bytes doesn't end there", ErrRESP, n)
	}
	return total, nil
}

func aggregate(src, line []byte, start, depth int) (int, error) {
	if src[0] == '*' && string(line) == "-1" {
		return start, nil
	}
	n, ok := decimal(line)
	if !ok || n > respElementsMax {
		return 0, fmt.Errorf("%w: %c of %.40q elements", ErrRESP, src[0], line)
	}
	if src[0] == '%' || src[0] == '|' {
		n *= 2
	}
	total := start
	for n > 0 {
		length, err := element(src[total:], depth+1)
		if err != nil || length == 0 {
			return 0, err
		}
		if src[total] != '|' { // an attribute belongs to the element after it
			n--
		}
		total += length
	}
	return total, nil
}
