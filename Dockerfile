# One image, both programs: `docker run … connector` or `docker run … broker`.
FROM node:26-slim AS build
WORKDIR /src
COPY . .
RUN npm ci --ignore-scripts --no-audit --no-fund && sh deploy/assemble.sh /app

FROM node:26-slim
COPY --from=build /app /app
# Data on one volume; on another what must never come back out of a backup of it (see docs/guides/container.md).
RUN for folder in stekker stekker-keys stekker-log stekker-intent stekker-journal stekker-signed; do mkdir -m 700 "/var/lib/$folder"; done \
  && chown node:node /var/lib/stekker /var/lib/stekker-keys /var/lib/stekker-log /var/lib/stekker-intent /var/lib/stekker-journal /var/lib/stekker-signed
USER node
ENV NODE_ENV=production STEKKER_DATA=/var/lib/stekker
VOLUME ["/var/lib/stekker", "/var/lib/stekker-keys", "/var/lib/stekker-log", "/var/lib/stekker-intent", "/var/lib/stekker-journal", "/var/lib/stekker-signed"]
ENTRYPOINT ["node", "/app/dist/bin/stekker.js"]
CMD ["connector"]
