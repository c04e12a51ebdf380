package codec

import (
	"fmt"

	"github.com/nexuscore-labs/nexus/frame"
)

// Frame is the project's own protocol; a request's Kind is a frame.Kind, its
// Key is not sent, and a response's Status is a frame.Status.
type Frame struct{}

// Append implements Codec.
func (Frame) Append(dst []byte, r *Request) ([]byte, error) {
	if len(r.Body) > frame.BodyLenMax {
		return dst, fmt.Errorf("codec: frame body of %d bytes exceeds %d", len(r.Body), frame.BodyLenMax)
	}
	return frame.Append(dst, frame.Frame{Kind: frame.Kind(r.Kind), Tenant: r.Tenant, ID: r.ID, Body: r.Body}), nil
}

// Parse implements Codec. A frame that is no answer is an error.
func (Frame) Parse(src []byte) (Response, int, error) {
	f, n, err := frame.Parse(src)
	if err != nil || n == 0 {
		return Response{}, 0, err
	}
	if f.Kind&frame.KindReply == 0 {
		return Response{}, 0, fmt.Errorf("codec: received a request of kind %d where an answer was due", f.Kind)
	}
	return Response{ID: f.ID, Status: uint8(f.Status), Body: f.Body}, n, nil
}

// Ordered implements Codec.
func (Frame) Ordered() bool { return false }
