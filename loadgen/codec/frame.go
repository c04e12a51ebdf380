package codec

import (
	"errors"
	"fmt"

	"github.com/nexuscore-labs/nexus/frame"
)

// Frame is the project's own protocol; a request's Kind is a frame.Kind, its
// Key is not sent, and a response's Status is a frame.Status.
type Frame struct {
	// Datagrams allows unchecked frames: one frame is one datagram.
	Datagrams bool
}

// Append implements Codec.
func (c Frame) Append(dst []byte, r *Request) ([]byte, error) {
	if len(r.Body) > frame.BodyLenMax {
		return dst, fmt.Errorf("codec: frame body of %d bytes exceeds %d", len(r.Body), frame.BodyLenMax)
	}
	var flags uint8
	if r.Unchecked {
		if !c.Datagrams {
			return dst, errors.New("codec: an unchecked frame needs a transport of datagrams")
		}
		flags = frame.FlagUnchecked
	}
	return frame.Append(dst, frame.Frame{Kind: frame.Kind(r.Kind), Flags: flags, Tenant: r.Tenant, ID: r.ID, Body: r.Body}), nil
}

// Parse implements Codec. A frame that is no answer is an error.
func (c Frame) Parse(src []byte) (Response, int, error) {
	f, n, err := c.read(src)
	if err != nil || n == 0 {
		return Response{}, 0, err
	}
	if f.Kind&frame.KindReply == 0 {
		return Response{}, 0, fmt.Errorf("codec: received a request of kind %d where an answer was due", f.Kind)
	}
	return Response{ID: f.ID, Status: uint8(f.Status), Body: f.Body}, n, nil
}

// read takes a frame with flags for a whole datagram, any other for one of
// several in src.
func (c Frame) read(src []byte) (frame.Frame, int, error) {
	if !c.Datagrams || len(src) < frame.HeaderLen || src[7] == 0 {
		return frame.Parse(src)
	}
	f, err := frame.ParseDatagram(src)
	return f, len(src), err
}

// Ordered implements Codec.
func (Frame) Ordered() bool { return false }
