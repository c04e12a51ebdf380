// Package qdranttarget is a sink.Target on Qdrant: each record of a source is one
// point, whose id is derived from the record's key, so that storing a change
// again changes nothing. Points carry their key and a fingerprint of what they
// hold beside the record's payload, which is what a resync compares.
package qdranttarget

import (
	"context"
	"crypto/sha1"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"strings"
	"time"

	"github.com/qdrant/go-client/qdrant"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/nexuscore-labs/nexus/systems/cdc/sink"
)

// Payload fields of this package's own.
const (
	FieldKey         = "_cdc_key"
	FieldFingerprint = "_cdc_fingerprint"
)

// Target writes to Qdrant. It may be used concurrently.
type Target struct {
	client *qdrant.Client
}

var _ sink.Target = (*Target)(nil)

// reconnectMax is the longest pause before a lost connection is tried again.
// gRPC's own is two minutes, which a server that was away for seconds would be
// waited for.
const reconnectMax = 500 * time.Millisecond

// Dial makes a client for New that comes back soon after its server does.
func Dial(host string, port int, apiKey string) (*qdrant.Client, error) {
	soon := backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectMax}
	client, err := qdrant.NewClient(&qdrant.Config{Host: host, Port: port, APIKey: apiKey, PoolSize: 1, SkipCompatibilityCheck: true,
		GrpcOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{Backoff: soon, MinConnectTimeout: 2 * time.Second})}})
	if err != nil {
		return nil, fmt.Errorf("connect to Qdrant at %s:%d: %w", host, port, err)
	}
	return client, nil
}

// New makes a target; the client stays the caller's.
func New(client *qdrant.Client) *Target { return &Target{client} }

// namespace is that of this package's UUIDs (RFC 9562, version 5).
var namespace = [16]byte{0x6e, 0x65, 0x78, 0x75, 0x73, 0x2d, 0x63, 0x64, 0x63, 0x2d, 0x6b, 0x65, 0x79, 0x73, 0x30, 0x31}

// PointID is the id of a record's point.
func PointID(key string) *qdrant.PointId {
	sum := sha1.Sum(append(namespace[:], key...))
	u := sum[:16]
	u[6], u[8] = u[6]&0x0f|0x50, u[8]&0x3f|0x80
	return qdrant.NewIDUUID(fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]))
}

// Fingerprint is equal for changes that leave equal points.
func Fingerprint(c sink.Change) (uint64, error) {
	h := fnv.New64a()
	var word [4]byte
	for _, x := range c.Vector {
		bits := math.Float32bits(x)
		word = [4]byte{byte(bits), byte(bits >> 8), byte(bits >> 16), byte(bits >> 24)}
		_, _ = h.Write(word[:])
	}
	// encoding/json sorts keys, so equal payloads have equal bytes.
	payload, err := json.Marshal(c.Payload)
	if err != nil {
		return 0, fmt.Errorf("%w: payload of %s: %w", sink.ErrRejected, c.Key, err)
	}
	_, _ = h.Write(payload)
	return h.Sum64(), nil
}

// pending is what goes to one collection.
type pending struct {
	upserts  []*qdrant.PointStruct
	payloads []*qdrant.PointsUpdateOperation
	deletes  []*qdrant.PointId
}

// Apply implements sink.Target.
func (t *Target) Apply(ctx context.Context, changes []sink.Change) error {
	collections := map[string]*pending{}
	for _, c := range changes {
		p := collections[c.Collection]
		if p == nil {
			p = &pending{}
			collections[c.Collection] = p
		}
		if c.Delete {
			p.deletes = append(p.deletes, PointID(c.Key))
			continue
		}
		point, err := pointOf(c)
		if err != nil {
			return err
		}
		if c.KeepVector {
			p.payloads = append(p.payloads, qdrant.NewPointsUpdateOverwritePayload(&qdrant.PointsUpdateOperation_OverwritePayload{
				Payload: point.GetPayload(), PointsSelector: qdrant.NewPointsSelector(point.GetId())}))
			continue
		}
		p.upserts = append(p.upserts, point)
	}
	for name, p := range collections {
		if err := t.send(ctx, name, p); err != nil {
			return classify(err)
		}
	}
	return nil
}

func (t *Target) send(ctx context.Context, name string, p *pending) error {
	wait := true
	if len(p.upserts) > 0 {
		if _, err := t.client.Upsert(ctx, &qdrant.UpsertPoints{CollectionName: name, Wait: &wait, Points: p.upserts}); err != nil {
			return err
		}
	}
	if len(p.payloads) > 0 {
		if _, err := t.client.UpdateBatch(ctx, &qdrant.UpdateBatchPoints{CollectionName: name, Wait: &wait, Operations: p.payloads}); err != nil {
			return err
		}
	}
	if len(p.deletes) > 0 {
		if _, err := t.client.Delete(ctx, &qdrant.DeletePoints{CollectionName: name, Wait: &wait, Points: qdrant.NewPointsSelectorIDs(p.deletes)}); err != nil {
			return err
		}
	}
	return nil
}

func pointOf(c sink.Change) (*qdrant.PointStruct, error) {
	fingerprint, err := Fingerprint(c)
	if err != nil {
		return nil, err
	}
	payload := maps.Clone(c.Payload)
	if payload == nil {
		payload = map[string]any{}
	}
	payload[FieldKey], payload[FieldFingerprint] = c.Key, int64(fingerprint)
	values, err := qdrant.TryValueMap(payload)
	if err != nil {
		return nil, fmt.Errorf("%w: payload of %s: %w", sink.ErrRejected, c.Key, err)
	}
	return &qdrant.PointStruct{Id: PointID(c.Key), Vectors: qdrant.NewVectorsDense(c.Vector), Payload: values}, nil
}

// classify tells errors that come from the change from those that pass.
func classify(err error) error {
	var grpcStatus interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &grpcStatus) {
		return err
	}
	switch s := grpcStatus.GRPCStatus(); s.Code() {
	case codes.InvalidArgument, codes.NotFound, codes.Unimplemented, codes.FailedPrecondition, codes.OutOfRange:
		return fmt.Errorf("%w: %w", sink.ErrRejected, err)
	case codes.ResourceExhausted:
		if strings.Contains(s.Message(), "larger than max") {
			return fmt.Errorf("%w: %w", sink.ErrRejected, err)
		}
	}
	return err
}

// scanPage is how many points one request of Scan asks for.
const scanPage = 1000

// Scan gives what the collection holds, for sink.Resync. Points without a key
// are not this package's and left alone.
func (t *Target) Scan(ctx context.Context, collection string, visit func(sink.Entry) error) error {
	limit, from := uint32(scanPage), (*qdrant.PointId)(nil)
	for {
		page, next, err := t.client.ScrollAndOffset(ctx, &qdrant.ScrollPoints{CollectionName: collection, Limit: &limit, Offset: from,
			WithPayload: qdrant.NewWithPayloadInclude(FieldKey, FieldFingerprint)})
		if err != nil {
			return fmt.Errorf("scan collection %s: %w", collection, err)
		}
		for _, p := range page {
			key, ours := p.GetPayload()[FieldKey].GetKind().(*qdrant.Value_StringValue)
			if !ours {
				continue
			}
			entry := sink.Entry{Collection: collection, Key: key.StringValue, Fingerprint: uint64(p.GetPayload()[FieldFingerprint].GetIntegerValue())}
			if err := visit(entry); err != nil {
				return err
			}
		}
		if next == nil {
			return nil
		}
		from = next
	}
}
