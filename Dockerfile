# The image of svcproxy: one static binary and both iptables backends, on a slim
# base. hack/image.sh builds it; bin/svcproxy must be there (make build).
FROM debian:bookworm-slim
RUN apt-get update -qq && \
    apt-get install -y -qq --no-install-recommends iptables && \
    rm -rf /var/lib/apt/lists/* /var/cache/apt /usr/share/doc /usr/share/man /usr/share/locale
COPY bin/svcproxy /usr/local/bin/svcproxy
ENTRYPOINT ["/usr/local/bin/svcproxy"]
