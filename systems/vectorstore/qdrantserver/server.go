// Package qdrantserver serves a vectorstore.Store over Qdrant's gRPC interface
// (the protobufs of github.com/qdrant/go-client), so that Qdrant's own client
// drives the embedded store and a real Qdrant alike. Its tests run against both:
// set QDRANT_URL for the second.
//
// # What it does not do
//
// One unnamed dense f32 vector for each point; cosine, dot and Euclid. Named,
// sparse and multi vectors, recommendation, discovery, fusion, groups, facets,
// shards, aliases and geo conditions answer Unimplemented with the name of what
// is missing; nothing is silently left out that would change an answer. Settings
// about where Qdrant keeps its data, its replicas, threads and consistency are
// accepted and mean nothing here: there is one node, everything is in memory and
// in the log. Point versions in results are 0. A change is durable and visible
// when it is answered, whether the client waits or not; wait only decides
// between the statuses Completed and Acknowledged.
package qdrantserver

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"path"
	"time"

	"github.com/qdrant/go-client/qdrant"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/nexuscore-labs/nexus/systems/vectorstore"
)

// Version is the one of the interface that is spoken: clients compare it with
// their own. Title in the health check says who really answers.
const (
	Version = "1.17.1"
	Title   = "nexus vectorstore - speaks Qdrant's gRPC"
)

// messageBytesMax bounds a request, as Qdrant's default does.
const messageBytesMax = 32 << 20

// Server is a gRPC server on a store.
type Server struct {
	store *vectorstore.Store
	grpc  *grpc.Server
}

// New makes a server; the store stays the caller's.
func New(store *vectorstore.Store) *Server {
	s := &Server{store: store, grpc: grpc.NewServer(
		grpc.MaxRecvMsgSize(messageBytesMax), grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.UnaryInterceptor(named))}
	qdrant.RegisterQdrantServer(s.grpc, &health{})
	qdrant.RegisterCollectionsServer(s.grpc, &collections{store: store})
	qdrant.RegisterPointsServer(s.grpc, &points{store: store})
	qdrant.RegisterSnapshotsServer(s.grpc, &snapshots{store: store})
	return s
}

// Serve answers until Stop.
func (s *Server) Serve(listener net.Listener) error {
	if err := s.grpc.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve Qdrant's gRPC on %s: %w", listener.Addr(), err)
	}
	return nil
}

// Stop lets requests under way end, for at most grace, and then cuts them off.
func (s *Server) Stop(grace time.Duration) {
	timer := time.AfterFunc(grace, s.grpc.Stop)
	defer timer.Stop()
	s.grpc.GracefulStop()
}

// named gives errors of the store their gRPC codes, and methods that are not
// there their names.
func named(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	response, err := handler(ctx, request)
	if err == nil {
		return response, nil
	}
	if s, ok := status.FromError(err); ok {
		if s.Code() == codes.Unimplemented {
			return nil, status.Errorf(codes.Unimplemented, "%s: %s", path.Base(info.FullMethod), s.Message())
		}
		return nil, err
	}
	return nil, status.Error(code(err), message(err))
}

func code(err error) codes.Code {
	for _, known := range []struct {
		err  error
		code codes.Code
	}{
		{vectorstore.ErrNotFound, codes.NotFound},
		{vectorstore.ErrExists, codes.AlreadyExists},
		{vectorstore.ErrInvalid, codes.InvalidArgument},
		{vectorstore.ErrDiskFull, codes.ResourceExhausted},
		{vectorstore.ErrClosed, codes.Unavailable},
		{context.Canceled, codes.Canceled},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
	} {
		if errors.Is(err, known.err) {
			return known.code
		}
	}
	return codes.Internal
}

// message puts Qdrant's words in front, which clients may look for.
func message(err error) string {
	switch {
	case errors.Is(err, vectorstore.ErrNotFound):
		return "Not found: " + err.Error()
	case errors.Is(err, vectorstore.ErrInvalid), errors.Is(err, vectorstore.ErrExists):
		return "Wrong input: " + err.Error()
	default:
		return "Service internal error: " + err.Error()
	}
}

func unimplemented(what string) error {
	return status.Errorf(codes.Unimplemented, "%s is not supported here", what)
}

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

type health struct {
	qdrant.UnimplementedQdrantServer
}

func (h *health) HealthCheck(context.Context, *qdrant.HealthCheckRequest) (*qdrant.HealthCheckReply, error) {
	return &qdrant.HealthCheckReply{Title: Title, Version: Version}, nil
}
