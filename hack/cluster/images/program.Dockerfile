# One static program: PROGRAM of the folder.
FROM scratch
ARG PROGRAM
ENV PATH=/usr/local/bin
COPY ${PROGRAM} /usr/local/bin/${PROGRAM}
