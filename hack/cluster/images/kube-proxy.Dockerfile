FROM debian:bookworm-slim
RUN apt-get update -qq && \
    apt-get install -y -qq --no-install-recommends iptables && \
    rm -rf /var/lib/apt/lists/* /var/cache/apt /usr/share/doc /usr/share/man /usr/share/locale
RUN apt-get update -qq && \
    apt-get install -y -qq --no-install-recommends kmod nftables && \
    rm -rf /var/lib/apt/lists/* /var/cache/apt /usr/share/doc /usr/share/man /usr/share/locale
COPY kube-proxy /usr/local/bin/kube-proxy
