module kferving/e2e/components/pause

go 1.26.0

tool kferving/e2e/components/pause
