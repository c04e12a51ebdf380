package realserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// RedisURLVariable names a Redis to use instead of a started one.
const RedisURLVariable = "REDIS_URL"

// Redis uses the server of REDIS_URL, or starts one that keeps everything in
// memory and nothing on disk. args are added to its command line.
func Redis(ctx context.Context, args ...string) (*Server, error) {
	if url := os.Getenv(RedisURLVariable); url != "" {
		return namedRedis(ctx, url)
	}
	path, err := program("redis-server", []string{"redis-server", "valkey-server"})
	if err != nil {
		return nil, err
	}
	return retry(ctx, func(port int) (*Server, error) { return startRedis(ctx, path, port, args) })
}

func namedRedis(ctx context.Context, url string) (*Server, error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("%s can't be read", RedisURLVariable) // err quotes the password
	}
	s := &Server{URL: url, Address: options.Addr}
	if s.Version, err = redisVersion(ctx, url); err != nil {
		return nil, fmt.Errorf("ask the Redis of %s: %w", RedisURLVariable, err)
	}
	return s, nil
}

func startRedis(ctx context.Context, path string, port int, args []string) (*Server, error) {
	dir, remove, err := temporary("", "redis")
	if err != nil {
		return nil, err
	}
	s := &Server{
		Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Managed: true,
		stop: syscall.SIGTERM, clean: remove,
	}
	s.URL = "redis://" + s.Address
	command := exec.Command(path, append([]string{
		"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no",
	}, args...)...)
	if err := s.start(command); err != nil {
		return nil, errors.Join(err, remove())
	}
	err = s.await(ctx, func(ctx context.Context) error {
		s.Version, err = redisVersion(ctx, s.URL)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func redisVersion(ctx context.Context, url string) (string, error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return "", err
	}
	options.MaxRetries = -1
	client := redis.NewClient(options)
	defer client.Close()
	info, err := client.Info(ctx, "server").Result()
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(info) {
		if version, ok := strings.CutPrefix(strings.TrimSpace(line), "redis_version:"); ok {
			return "Redis " + version, nil
		}
	}
	return "", errors.New("it does not tell its version")
}
