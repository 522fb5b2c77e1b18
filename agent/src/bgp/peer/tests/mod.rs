mod opens;
