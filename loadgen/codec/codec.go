// Package codec puts requests on the wire and reads answers off it: the
// project's frame, HTTP/1.1 and RESP2/3. Parsers are incremental: given a
// prefix of an answer they ask for more, and never read past what they are given.
package codec

import (
	"errors"
	"fmt"
)

// Request is what an encoder writes. Its slices are only read during Append.
type Request struct {
	ID     uint64 // echoed by codecs that match answers by id
	Tenant uint32
	Kind   uint8 // see the codec
	Key    []byte
	Body   []byte
	// Unchecked asks the frame codec for frame.FlagUnchecked, over datagrams.
	Unchecked bool
}

// Response is one parsed answer. Body aliases the parsed bytes or the codec's
// own scratch, and holds until the next Parse.
type Response struct {
	ID     uint64
	Status uint8 // 0 is success; see the codec for others
	// Push marks a message that answers no request (RESP3): to be skipped.
	Push bool
	Body []byte
}

// Codec is one wire protocol. An instance belongs to one goroutine and serves
// all its connections: it keeps nothing between calls but scratch memory.
type Codec interface {
	// Append appends the wire form of r to dst. The error names a request that
	// the protocol can't express; dst is then returned unchanged.
	Append(dst []byte, r *Request) ([]byte, error)
	// Parse reads the first answer of src. It returns the bytes it took, 0 when
	// src holds only part of one. After an error the connection is lost.
	Parse(src []byte) (Response, int, error)
	// Ordered says that answers come in the order of the requests instead of
	// carrying their id.
	Ordered() bool
}

// AnswerLenMax bounds an answer, in bytes, for every codec.
const AnswerLenMax = 17 << 20

// ErrTooLarge refuses an answer beyond AnswerLenMax.
var ErrTooLarge = errors.New("codec: answer is too large")

// Names lists what New knows.
func Names() []string { return []string{"frame", "http1", "resp"} }

// New returns the named codec; host is sent in HTTP's Host header. datagrams
// says that each answer is a datagram of its own.
func New(name, host string, datagrams bool) (Codec, error) {
	switch name {
	case "frame":
		return Frame{Datagrams: datagrams}, nil
	case "http1":
		return &HTTP{Host: host}, nil
	case "resp":
		return RESP{}, nil
	}
	return nil, fmt.Errorf("unknown codec %q: want one of %q", name, Names())
}
