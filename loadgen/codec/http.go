package codec

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// Kinds of HTTP requests.
const (
	HTTPGet    = 0
	HTTPPost   = 1
	HTTPPut    = 2
	HTTPDelete = 3
)

var httpMethods = [...]string{HTTPGet: "GET ", HTTPPost: "POST ", HTTPPut: "PUT ", HTTPDelete: "DELETE "}

// httpHeaderLenMax bounds status line and headers, in bytes.
const httpHeaderLenMax = 64 << 10

// ErrHTTP is any answer that isn't HTTP/1.x as RFC 9112 has it.
var ErrHTTP = errors.New("codec: malformed HTTP answer")

// HTTP is HTTP/1.1 with persistent connections. A request's Kind is a method,
// its Key the request target ("/" when empty). A response's Status is 0 for
// 2xx, else the hundreds of the status code.
type HTTP struct {
	Host    string
	scratch []byte // bodies that came in chunks
}

// Append implements Codec.
func (h *HTTP) Append(dst []byte, r *Request) ([]byte, error) {
	if int(r.Kind) >= len(httpMethods) {
		return dst, fmt.Errorf("codec: HTTP request of unknown kind %d", r.Kind)
	}
	if bytes.ContainsAny(r.Key, " \r\n") {
		return dst, fmt.Errorf("codec: HTTP request target %q contains white space", r.Key)
	}
	dst = append(dst, httpMethods[r.Kind]...)
	if len(r.Key) == 0 {
		dst = append(dst, '/')
	}
	dst = append(dst, r.Key...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, h.Host...)
	if len(r.Body) > 0 || r.Kind == HTTPPost || r.Kind == HTTPPut {
		dst = append(dst, "\r\nContent-Length: "...)
		dst = strconv.AppendInt(dst, int64(len(r.Body)), 10)
	}
	dst = append(dst, "\r\n\r\n"...)
	return append(dst, r.Body...), nil
}

// Ordered implements Codec.
func (h *HTTP) Ordered() bool { return true }

// Parse implements Codec. An answer whose end is the connection's end is an
// error, as pipelining needs its length; so is a switch of protocols.
func (h *HTTP) Parse(src []byte) (Response, int, error) {
	end := bytes.Index(src, []byte("\r\n\r\n"))
	if end < 0 {
		if len(src) > httpHeaderLenMax {
			return Response{}, 0, fmt.Errorf("%w: headers exceed %d bytes", ErrHTTP, httpHeaderLenMax)
		}
		return Response{}, 0, plausibleStart(src)
	}
	code, lines, err := statusLine(src[:end])
	if err != nil {
		return Response{}, 0, err
	}
	if code == 101 {
		return Response{}, 0, fmt.Errorf("%w: the server switches protocols", ErrHTTP)
	}
	if code < 200 { // 100 Continue and 103 Early Hints precede the answer
		return Response{Push: true}, end + 4, nil
	}
	length, chunked, err := bodyLength(lines)
	if err != nil {
		return Response{}, 0, err
	}
	response := Response{Status: uint8(code / 100)}
	if response.Status == 2 {
		response.Status = 0
	}
	rest := src[end+4:]
	switch {
	case code == 204 || code == 304:
		return response, end + 4, nil
	case chunked:
		body, n, err := h.chunks(rest)
		if err != nil || n == 0 {
			return Response{}, 0, err
		}
		response.Body = body
		return response, end + 4 + n, nil
	case length < 0:
		return Response{}, 0, fmt.Errorf("%w: neither Content-Length nor chunked", ErrHTTP)
	case length > AnswerLenMax:
		return Response{}, 0, fmt.Errorf("%w: %d bytes", ErrTooLarge, length)
	case len(rest) < length:
		return Response{}, 0, nil
	}
	response.Body = rest[:length:length]
	return response, end + 4 + length, nil
}

// plausibleStart refuses early what can't become a status line.
func plausibleStart(src []byte) error {
	const prefix = "HTTP/1."
	n := min(len(src), len(prefix))
	if string(src[:n]) != prefix[:n] {
		return fmt.Errorf("%w: starts with %q", ErrHTTP, src[:n])
	}
	return nil
}

func statusLine(head []byte) (code int, headers []byte, err error) {
	line, headers, _ := bytes.Cut(head, []byte("\r\n"))
	// HTTP/1.1 200 OK; the reason may be empty.
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || line[8] != ' ' || (len(line) > 12 && line[12] != ' ') {
		return 0, nil, fmt.Errorf("%w: status line %.40q", ErrHTTP, line)
	}
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return 0, nil, fmt.Errorf("%w: status line %.40q", ErrHTTP, line)
		}
		code = code*10 + int(c-'0')
	}
	if code < 100 || code > 599 {
		return 0, nil, fmt.Errorf("%w: status code %d", ErrHTTP, code)
	}
	return code, headers, nil
}

// bodyLength reads the two headers that matter; length is -1 without one.
func bodyLength(headers []byte) (length int, chunked bool, err error) {
	length = -1
	for len(headers) > 0 {
		var line []byte
		line, headers, _ = bytes.Cut(headers, []byte("\r\n"))
		if len(line) < 15 || (line[0]|0x20 != 'c' && line[0]|0x20 != 't') {
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.Trim(value, " \t")
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			n, ok := decimal(value)
			if !ok || (length >= 0 && n != length) {
				return 0, false, fmt.Errorf("%w: Content-Length %.40q", ErrHTTP, value)
			}
			length = n
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			if !bytes.EqualFold(value, []byte("chunked")) {
				return 0, false, fmt.Errorf("%w: Transfer-Encoding %.40q", ErrHTTP, value)
			}
			chunked = true
		}
	}
	if chunked && length >= 0 {
		return 0, false, fmt.Errorf("%w: both Content-Length and chunked", ErrHTTP)
	}
	return length, chunked, nil
}

// decimal parses an unsigned number of up to nine digits.
func decimal(s []byte) (int, bool) {
	if len(s) == 0 || len(s) > 9 {
		return 0, false
	}
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// chunks joins a chunked body; 0 bytes taken asks for more.
func (h *HTTP) chunks(src []byte) (body []byte, taken int, err error) {
	h.scratch = h.scratch[:0]
	for {
		line, rest, found := bytes.Cut(src[taken:], []byte("\r\n"))
		if !found {
			if len(line) > 128 {
				return nil, 0, fmt.Errorf("%w: chunk header %.40q", ErrHTTP, line)
			}
			return nil, 0, nil
		}
		digits, _, _ := bytes.Cut(line, []byte(";"))
		size, ok := hexadecimal(bytes.TrimRight(digits, " \t"))
		if !ok {
			return nil, 0, fmt.Errorf("%w: chunk size %.40q", ErrHTTP, line)
		}
		if size+len(h.scratch) > AnswerLenMax {
			return nil, 0, fmt.Errorf("%w: chunks exceed %d bytes", ErrTooLarge, AnswerLenMax)
		}
		taken += len(line) + 2
		if size == 0 {
			return h.trailer(src, taken)
		}
		if len(rest) < size+2 {
			return nil, 0, nil
		}
		if rest[size] != '\r' || rest[size+1] != '\n' {
			return nil, 0, fmt.Errorf("%w: a chunk of %d bytes doesn't end there", ErrHTTP, size)
		}
		h.scratch = append(h.scratch, rest[:size]...)
		taken += size + 2
	}
}

// trailer skips the lines after the last chunk up to the empty one.
func (h *HTTP) trailer(src []byte, taken int) ([]byte, int, error) {
	start := taken
	for {
		line, _, found := bytes.Cut(src[taken:], []byte("\r\n"))
		if taken+len(line)-start > httpHeaderLenMax {
			return nil, 0, fmt.Errorf("%w: trailers exceed %d bytes", ErrHTTP, httpHeaderLenMax)
		}
		if !found {
			return nil, 0, nil
		}
		taken += len(line) + 2
		if len(line) == 0 {
			return h.scratch, taken, nil
		}
	}
}

func hexadecimal(s []byte) (int, bool) {
	if len(s) == 0 || len(s) > 7 {
		return 0, false
	}
	n := 0
	for _, c := range s {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | int(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			n = n<<4 | int(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return n, true
}
