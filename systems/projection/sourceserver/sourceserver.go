// Package sourceserver answers requests for projections over UDP by asking a source
// for every one: no cache of its own, a goroutine for each request that is being
// answered, as a service in front of a database has it.
package sourceserver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/systems/projection"
)

// datagramLenMax bounds a request, in bytes.
const datagramLenMax = 16 << 10

// Source gives projections.
type Source interface {
	Rebuild(ctx context.Context, tenant, projection uint32) (projection.Result, error)
}

// Stats are counters of a server.
type Stats struct {
	Answered, Refused, Malformed atomic.Uint64
}

// Serve answers what arrives at conn, workers requests at a time, until ctx ends;
// it closes conn.
func Serve(ctx context.Context, conn *net.UDPConn, source Source, workers int, stats *Stats) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	errs := make([]error, workers)
	var working sync.WaitGroup
	for i := range errs {
		working.Go(func() {
			errs[i] = serve(ctx, conn, source, stats)
			if errs[i] != nil {
				conn.Close() // the others end, too
			}
		})
	}
	working.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return ctx.Err()
}

func serve(ctx context.Context, conn *net.UDPConn, source Source, stats *Stats) error {
	request, answer := make([]byte, datagramLenMax), []byte(nil)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(request)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive a request: %w", err)
		}
		get, err := frame.ParseDatagram(request[:n])
		if err != nil {
			stats.Malformed.Add(1)
			continue // an answer would have no id
		}
		answer = respond(ctx, answer[:0], get, source, stats)
		if _, err := conn.WriteToUDPAddrPort(answer, from); err != nil && !errors.Is(err, net.ErrClosed) {
			stats.Refused.Add(1) // that client is gone
		}
	}
}

func respond(ctx context.Context, dst []byte, get frame.Frame, source Source, stats *Stats) []byte {
	reply := frame.Frame{Kind: get.Kind | frame.KindReply, Flags: get.Flags, Tenant: get.Tenant, ID: get.ID}
	if get.Kind != frame.KindGet || get.Status != 0 || len(get.Body) < 4 {
		stats.Malformed.Add(1)
		reply.Status = frame.StatusMalformed
		return frame.Append(dst, reply)
	}
	result, err := source.Rebuild(ctx, get.Tenant, binary.LittleEndian.Uint32(get.Body))
	switch {
	case errors.Is(err, projection.ErrTenant) || errors.Is(err, projection.ErrProjection):
		reply.Status = frame.StatusUnknown
	case err != nil:
		reply.Status = frame.StatusUnavailable
	}
	if err != nil {
		stats.Refused.Add(1)
		return frame.Append(dst, reply)
	}
	stats.Answered.Add(1)
	at := len(dst)
	dst = append(dst, make([]byte, frame.HeaderLen)...)
	dst = binary.LittleEndian.AppendUint64(dst, result.Seq)
	dst = binary.LittleEndian.AppendUint32(dst, result.Version)
	dst = append(dst, result.Data...)
	frame.Seal(dst[at:], reply)
	return dst
}
