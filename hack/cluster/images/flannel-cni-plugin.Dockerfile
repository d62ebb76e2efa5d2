FROM debian:bookworm-slim
COPY flannel /flannel
