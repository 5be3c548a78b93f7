# One image, both programs: `docker run … connector` or `docker run … broker`.
FROM node:26-slim AS build
WORKDIR /src
COPY . .
RUN npm ci --ignore-scripts --no-audit --no-fund && sh deploy/assemble.sh /app

FROM node:26-slim
COPY --from=build /app /app
RUN mkdir -p /var/lib/stekker /var/lib/stekker-intent && chown node:node /var/lib/stekker /var/lib/stekker-intent
USER node
ENV NODE_ENV=production STEKKER_DATA=/var/lib/stekker
VOLUME ["/var/lib/stekker", "/var/lib/stekker-intent"]
ENTRYPOINT ["node", "/app/dist/bin/stekker.js"]
CMD ["connector"]
