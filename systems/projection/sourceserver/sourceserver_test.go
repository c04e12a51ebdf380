package sourceserver

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/systems/projection"
)

// testSource gives values that say what they are.
type testSource struct{}

func (testSource) Rebuild(_ context.Context, tenant, number uint32) (projection.Result, error) {
	switch number {
	case 7:
		return projection.Result{}, projection.ErrProjection
	case 8:
		return projection.Result{}, errors.New("the database is gone")
	}
	return projection.Result{Version: tenant, Seq: uint64(number), Data: binary.LittleEndian.AppendUint32(nil, tenant*1000+number)}, nil
}

func TestServe(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var stats Stats
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, conn, testSource{}, 4, &stats) }()
	var clients sync.WaitGroup
	for client := range uint32(6) {
		clients.Go(func() { askAll(t, conn.LocalAddr().String(), client) })
	}
	clients.Wait()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if a, r, m := stats.Answered.Load(), stats.Refused.Load(), stats.Malformed.Load(); a != 6*7 || r != 6*2 || m != 6*2 {
		t.Errorf("answered %d, refused %d, malformed %d", a, r, m)
	}
}

func askAll(t *testing.T, address string, client uint32) {
	conn, err := net.Dial("udp4", address)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("no frame at all, and long enough to be one")); err != nil {
		t.Error(err)
	}
	for number := range uint32(10) {
		f := frame.Frame{Kind: frame.KindGet, Tenant: client, ID: uint64(number), Body: binary.LittleEndian.AppendUint32(nil, number)}
		want := frame.StatusOK
		switch number {
		case 7:
			want = frame.StatusUnknown
		case 8:
			want, f.Flags = frame.StatusUnavailable, frame.FlagUnchecked
		case 9:
			want, f.Kind = frame.StatusMalformed, frame.KindPing
		}
		got := ask(t, conn, f)
		if got.Status != want || got.ID != f.ID || got.Flags != f.Flags || got.Tenant != client {
			t.Errorf("client %d, number %d: %+v", client, number, got)
		}
		if want == frame.StatusOK && (len(got.Body) != 16 || binary.LittleEndian.Uint32(got.Body[12:]) != client*1000+number) {
			t.Errorf("client %d, number %d: body %x", client, number, got.Body)
		}
	}
}

func ask(t *testing.T, conn net.Conn, f frame.Frame) frame.Frame {
	if _, err := conn.Write(frame.Append(nil, f)); err != nil {
		t.Error(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Error(err)
	}
	buf := make([]byte, 2048)
	n, err := conn.Read(buf)
	if err != nil {
		t.Error(err)
		return frame.Frame{}
	}
	got, err := frame.ParseDatagram(buf[:n])
	if err != nil {
		t.Error(err)
	}
	return got
}
