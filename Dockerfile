# Tandem's image: one entry point, the verb is the argument (operator, filer, and the command line's).
#   docker build -t tandem .
# It needs nothing at run time but its volumes: it runs as user 64000 with a read-only root file system and no capability.
FROM node:24-bookworm-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --omit=optional --no-audit --no-fund
COPY src ./src
COPY e2e/image ./e2e/image
RUN e2e/image/rootfs.sh /app /usr/local/bin/node /rootfs

FROM scratch
COPY --from=build /rootfs/ /
USER 64000:64000
ENV PATH=/usr/bin NODE_ENV=production
WORKDIR /app
ENTRYPOINT ["/usr/bin/node", "/app/src/main.ts"]
