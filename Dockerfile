# The README's steps in an image: `docker build --tag etcd-rs .`, and then
#
#   docker run --publish 2379:2379 --volume etcd:/var/lib/etcd etcd-rs \
#     --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls http://127.0.0.1:2379

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --profile dist --locked

FROM debian:bookworm-slim
# The system's authorities, for TLS to discovery services.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --user-group --home-dir /var/lib/etcd --shell /usr/sbin/nologin etcd \
 && install -d -o etcd -g etcd -m 0700 /var/lib/etcd
COPY --from=build /src/target/dist/etcd /src/target/dist/etcdctl /src/target/dist/etcd-dump \
     /src/target/dist/etcd-migrate /usr/local/bin/
USER etcd
ENV ETCD_DATA_DIR=/var/lib/etcd
VOLUME /var/lib/etcd
EXPOSE 2379 2380
ENTRYPOINT ["etcd"]
